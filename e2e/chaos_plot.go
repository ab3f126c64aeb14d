package e2e

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The colours of the plot.
var (
	placedColor    = color.RGBA{R: 0x9a, G: 0xa5, B: 0xb1, A: 0xff}
	deliveredColor = color.RGBA{R: 0x1f, G: 0x6f, B: 0xb4, A: 0xff}
	hitColor       = color.RGBA{R: 0xc2, G: 0x4d, B: 0x2c, A: 0xff}
	missedColor    = color.RGBA{R: 0xe6, G: 0xc8, B: 0xbc, A: 0xff}
	gridColor      = color.RGBA{R: 0xe8, G: 0xeb, B: 0xee, A: 0xff}
)

func plotFont(size float64) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Length(size)}
}

// plot draws the orders per second over time and, below, a row for each kind of
// fault with a bar for each fault, as an SVG at path.
func (r *chaosReport) plot(path string) (err error) {
	if len(r.PlacedPerS) == 0 {
		return errors.New("draw the chaos: nothing was measured")
	}
	p := plot.New()
	p.BackgroundColor = color.White // readable on a dark page, too
	p.X.Label.Text = "seconds"
	p.X.Label.TextStyle.Font = plotFont(9)
	p.X.Tick.Label.Font, p.Y.Tick.Label.Font = plotFont(9), plotFont(9)
	p.X.Min, p.X.Max = 0, float64(len(r.PlacedPerS))
	p.Y.Tick.Length, p.Y.LineStyle.Width = 0, 0
	p.Y.Padding = 7 * vg.Millimeter // a viewer without this font may take a wider one

	// The rows lie below zero, a part each of what is above.
	kinds := make([]string, len(r.Recovery))
	for i, k := range r.Recovery {
		kinds[i] = k.Kind
	}
	highest := float64(max(slices.Max(r.PlacedPerS), slices.Max(r.DeliveredPS), 4))
	rates := 7 * vg.Centimeter
	rowHeight := 4.5 * vg.Millimeter
	row := 1.05 * highest * float64(rowHeight/rates)
	p.Y.Min, p.Y.Max = -row*(float64(len(kinds))+0.8), 1.05*highest
	p.Y.Tick.Marker = plot.ConstantTicks(rateTicks(highest, row, kinds))
	p.Add(lines{highest, row, len(kinds)})
	for _, f := range r.Faults {
		y := -row * (float64(slices.Index(kinds, f.Kind)) + 1.3)
		p.Add(faultBar{from: f.Struck, to: f.Healed, y: y, height: rowHeight * 0.6, hit: f.Hits > 0})
	}
	for _, s := range []struct {
		rates []int
		color color.Color
		width vg.Length
	}{{r.PlacedPerS, placedColor, 1.2}, {r.DeliveredPS, deliveredColor, 1.6}} {
		points := make(plotter.XYs, len(s.rates))
		for i, n := range s.rates {
			points[i] = plotter.XY{X: float64(i) + 0.5, Y: float64(n)}
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return fmt.Errorf("draw the chaos: %w", err)
		}
		line.Color, line.Width = s.color, s.width
		p.Add(line)
	}
	canvas := vgsvg.New(27*vg.Centimeter, rates+rowHeight*vg.Length(len(kinds))+3*vg.Centimeter)
	all := draw.New(canvas)
	all.SetColor(color.White)
	all.Fill(all.Path())
	r.plotHead(draw.Crop(all, 4*vg.Millimeter, -4*vg.Millimeter, all.Max.Y-12*vg.Millimeter, -2*vg.Millimeter))
	p.Draw(draw.Crop(all, 4*vg.Millimeter, -4*vg.Millimeter, 2*vg.Millimeter, -13*vg.Millimeter))
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("draw the chaos: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := canvas.WriteTo(file); err != nil {
		return fmt.Errorf("draw the chaos into %s: %w", path, err)
	}
	return nil
}

// plotHead writes what the plot shows and what its colours mean.
func (r *chaosReport) plotHead(c draw.Canvas) {
	style := draw.TextStyle{Color: color.Black, Font: plotFont(10), Handler: plot.DefaultTextHandler}
	title := fmt.Sprintf("chaos, seed %d: %d faults that hit, %d orders promised, %s", r.Seed, r.hit(), r.Promised, r.rest())
	c.FillText(style, vg.Point{X: c.Min.X, Y: c.Max.Y - 4*vg.Millimeter}, title)
	style.Font = plotFont(9)
	x, y := c.Min.X, c.Min.Y+0.5*vg.Millimeter
	for _, e := range []struct {
		text  string
		color color.Color
	}{{"orders placed/s", placedColor}, {"orders delivered/s", deliveredColor}, {"a fault, from its beginning to its healing", hitColor}, {"a fault that hit nothing", missedColor}} {
		c.SetColor(e.color)
		c.Fill(vg.Rectangle{Min: vg.Point{X: x, Y: y}, Max: vg.Point{X: x + 6*vg.Millimeter, Y: y + 2*vg.Millimeter}}.Path())
		x += 7.5 * vg.Millimeter
		c.FillText(style, vg.Point{X: x, Y: y}, e.text)
		x += 1.2*style.Width(e.text) + 6*vg.Millimeter // a viewer without this font may take a wider one
	}
}

// rateTicks labels the rates above zero and the rows of the kinds below.
func rateTicks(highest, row float64, kinds []string) []plot.Tick {
	step := math.Pow(10, math.Floor(math.Log10(highest)))
	switch {
	case highest/step < 2:
		step /= 4
	case highest/step < 5:
		step /= 2
	}
	step = max(1, math.Round(step))
	var ticks []plot.Tick
	for y := 0.0; y <= highest; y += step {
		ticks = append(ticks, plot.Tick{Value: y, Label: strconv.Itoa(int(y))})
	}
	for i, kind := range kinds {
		ticks = append(ticks, plot.Tick{Value: -row * (float64(i) + 1.3), Label: kind})
	}
	return ticks
}

// lines are thin lines under everything: the rates' zero and between the rows.
type lines struct {
	highest, row float64
	rows         int
}

func (l lines) Plot(c draw.Canvas, p *plot.Plot) {
	_, toY := p.Transforms(&c)
	thin := draw.LineStyle{Color: gridColor, Width: 0.6}
	for i := range l.rows + 1 {
		y := toY(-l.row * (float64(i) + 0.8))
		c.StrokeLine2(thin, c.Min.X, y, c.Max.X, y)
	}
	thin.Color = placedColor
	c.StrokeLine2(thin, c.Min.X, toY(0), c.Max.X, toY(0))
}

// faultBar is a fault in its row. However short, it can be seen.
type faultBar struct {
	from, to, y float64
	height      vg.Length
	hit         bool
}

func (b faultBar) Plot(c draw.Canvas, p *plot.Plot) {
	toX, toY := p.Transforms(&c)
	left, middle := toX(b.from), toY(b.y)
	right := min(max(toX(b.to), left+0.7*vg.Millimeter), c.Max.X)
	c.SetColor(missedColor)
	if b.hit {
		c.SetColor(hitColor)
	}
	c.Fill(vg.Rectangle{Min: vg.Point{X: left, Y: middle - b.height/2}, Max: vg.Point{X: right, Y: middle + b.height/2}}.Path())
}
