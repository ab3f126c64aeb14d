package bench

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The colours of the plot: ours, others', p99.
var (
	oursColor   = color.RGBA{R: 0x1f, G: 0x6f, B: 0xb4, A: 0xff}
	othersColor = color.RGBA{R: 0x9a, G: 0xa5, B: 0xb1, A: 0xff}
	slowColor   = color.RGBA{R: 0xc2, G: 0x4d, B: 0x2c, A: 0xff}
)

// bar is one line of the plot, from the bottom up.
type bar struct {
	title    string
	ours     bool
	ratio    Spread
	p50, p99 float64 // medians, in ms; 0 = none
}

// bars are what r has to show, the fastest at the top.
func (r *Report) bars() []bar {
	var list []bar
	for _, s := range r.Systems {
		if s.Ratio != nil {
			list = append(list, bar{title: s.Title, ours: s.Name == partChain || s.Name == partShop, ratio: *s.Ratio, p50: s.P50MS.Median, p99: s.P99MS.Median})
		}
	}
	if r.SixTransactions != nil {
		list = append(list, bar{title: "bare SQL, six transactions", ratio: Spread{1, 1, 1}})
		one := r.OneTransaction.Median / r.SixTransactions.Median
		list = append(list, bar{title: "bare SQL, one transaction", ratio: Spread{one, one, one}})
	}
	slices.SortStableFunc(list, func(a, b bar) int {
		switch {
		case a.ratio.Median < b.ratio.Median:
			return -1
		case a.ratio.Median > b.ratio.Median:
			return 1
		}
		return 0
	})
	return list
}

// Plot draws throughput and latency as an SVG at path. It returns an error when
// the yardstick or all systems are missing.
func (r *Report) Plot(path string) (err error) {
	list := r.bars()
	if r.SixTransactions == nil || len(list) < 3 {
		return errors.New("draw the figures: the yardstick and a system must have been measured")
	}
	throughput, err := plotRatios(list)
	if err != nil {
		return fmt.Errorf("draw the figures: %w", err)
	}
	latency, err := plotLatencies(list, r.Systems[0].Rate)
	if err != nil {
		return fmt.Errorf("draw the figures: %w", err)
	}
	canvas := vgsvg.New(25*vg.Centimeter, (2.2+0.9*vg.Length(len(list)))*vg.Centimeter)
	plots := [][]*plot.Plot{{throughput, latency}}
	tiles := draw.Tiles{Rows: 1, Cols: 2, PadX: 6 * vg.Millimeter, PadTop: 2 * vg.Millimeter, PadRight: 4 * vg.Millimeter, PadLeft: 2 * vg.Millimeter, PadBottom: 2 * vg.Millimeter}
	for i, c := range plot.Align(plots, tiles, draw.New(canvas))[0] {
		plots[0][i].Draw(c)
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("draw the figures: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := canvas.WriteTo(file); err != nil {
		return fmt.Errorf("draw the figures into %s: %w", path, err)
	}
	return nil
}

// newPlot is an empty plot with a line for each of list.
func newPlot(title string, list []bar, named bool) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.White // readable on a dark page, too
	p.Title.Text = title
	p.Title.TextStyle.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 10}
	p.Title.Padding = 3 * vg.Millimeter
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Tick.Label.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 9}
	}
	names := make([]string, len(list))
	for i, b := range list {
		if named {
			names[i] = b.title
		}
	}
	p.NominalY(names...)
	if named {
		p.Y.Padding = 6 * vg.Millimeter // a viewer without this font may take a wider one
	}
	p.Y.Min, p.Y.Max = -0.6, float64(len(list))-0.4
	return p
}

func plotRatios(list []bar) (*plot.Plot, error) {
	p := newPlot("orders/s, over bare SQL in six transactions", list, true)
	errorBars := struct {
		plotter.XYs
		plotter.XErrors
	}{}
	labels := plotter.XYLabels{}
	for i, b := range list {
		bars, err := plotter.NewBarChart(plotter.Values{b.ratio.Median}, 5*vg.Millimeter)
		if err != nil {
			return nil, err
		}
		bars.Horizontal, bars.XMin, bars.LineStyle.Width, bars.Color = true, float64(i), 0, othersColor
		if b.ours {
			bars.Color = oursColor
		}
		p.Add(bars)
		errorBars.XYs = append(errorBars.XYs, plotter.XY{X: b.ratio.Median, Y: float64(i)})
		errorBars.XErrors = append(errorBars.XErrors, struct{ Low, High float64 }{b.ratio.Min - b.ratio.Median, b.ratio.Max - b.ratio.Median})
		labels.XYs = append(labels.XYs, plotter.XY{X: b.ratio.Max, Y: float64(i)})
		labels.Labels = append(labels.Labels, fmt.Sprintf("%.2f", b.ratio.Median))
		p.X.Max = max(p.X.Max, b.ratio.Max*1.12)
	}
	spreads, err := plotter.NewXErrorBars(errorBars)
	if err != nil {
		return nil, err
	}
	return p, addLabels(p, spreads, labels)
}

// addLabels adds data and, beside each of its points, its figure.
func addLabels(p *plot.Plot, data plot.Plotter, at plotter.XYLabels) error {
	labels, err := plotter.NewLabels(at)
	if err != nil {
		return err
	}
	labels.Offset = vg.Point{X: 1.5 * vg.Millimeter, Y: -1 * vg.Millimeter}
	for i := range labels.TextStyle {
		labels.TextStyle[i].Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 8}
	}
	p.Add(data, labels)
	return nil
}

func plotLatencies(list []bar, rate float64) (*plot.Plot, error) {
	p := newPlot(fmt.Sprintf("placed to confirmed at %g orders/s, ms", rate), list, false)
	p.X.Label.Text = "p50 and, red, p99"
	p.X.Label.TextStyle.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 9}
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	low, high := math.Inf(1), 0.0
	for i, b := range list {
		if b.p50 <= 0 {
			continue
		}
		low, high = min(low, b.p50), max(high, b.p99)
		line, err := plotter.NewLine(plotter.XYs{{X: b.p50, Y: float64(i)}, {X: b.p99, Y: float64(i)}})
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = othersColor, 2
		p.Add(line)
		first := othersColor
		if b.ours {
			first = oursColor
		}
		for _, dot := range []struct {
			x     float64
			color color.Color
		}{{b.p50, first}, {b.p99, slowColor}} {
			points, err := plotter.NewScatter(plotter.XYs{{X: dot.x, Y: float64(i)}})
			if err != nil {
				return nil, err
			}
			points.GlyphStyle = draw.GlyphStyle{Color: dot.color, Radius: 4, Shape: draw.CircleGlyph{}}
			figure := plotter.XYLabels{XYs: plotter.XYs{{X: dot.x, Y: float64(i) + 0.12}}, Labels: []string{fmt.Sprintf("%.1f", dot.x)}}
			if err := addLabels(p, points, figure); err != nil {
				return nil, err
			}
		}
	}
	p.X.Min = math.Pow(10, math.Floor(math.Log10(low)))
	p.X.Max = math.Pow(10, math.Ceil(math.Log10(high)))
	return p, nil
}
