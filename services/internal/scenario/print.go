package scenario

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// Printer prints a story as it is told.
type Printer struct {
	Out   io.Writer
	Color bool // for a terminal
	Page  bool // ids and times, which differ each time, are replaced by what doesn't

	ids map[string]string // of a page, by the ids that they replace
	err error
}

// What a terminal makes of text.
const (
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	reset  = "\x1b[0m"
)

// textWidth is the column at which answers and times begin.
const textWidth = 52

// Begin prints what s is about.
func (p *Printer) Begin(s Story) {
	p.printf("%s  %s\n\n", p.in(bold, s.Name), s.Title)
}

// Line prints a line of it.
func (p *Printer) Line(l Line) {
	switch l.Kind {
	case Step:
		p.printf("  %s\n", p.in(bold, l.Text))
	case Request:
		color := green
		if l.Code >= 400 {
			color = yellow
		}
		p.row(p.in(dim, pad(l.Text, textWidth)), p.in(color, fmt.Sprintf("%8d", l.Code)), l.Note)
	case Status:
		p.row(pad(l.Text, textWidth), p.in(dim, fmt.Sprintf("%8s", p.since(l.At))), l.Note)
	case Fact:
		p.row(p.in(dim, pad(l.Text, 10)), l.Note, "")
	}
}

// End prints how it ended.
func (p *Printer) End(r Result) {
	switch {
	case r.Outcome == Failed:
		p.printf("\n  %s: %s\n\n", p.in(red, "failed"), r.Why)
	case r.Outcome == NotRun:
		p.printf("\n  %s: %s\n\n", p.in(yellow, "not run"), r.Why)
	case !p.Page:
		p.printf("\n  %s after %.1f s\n\n", p.in(green, "passed"), r.Seconds)
	}
}

// Err is the first error of writing.
func (p *Printer) Err() error { return p.err }

func (p *Printer) row(cells ...string) {
	p.printf("    %s\n", strings.TrimRight(strings.Join(cells, "  "), " "))
}

func (p *Printer) printf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p.Page {
		text = someUUID.ReplaceAllStringFunc(text, p.stable)
	}
	if p.err == nil {
		_, p.err = io.WriteString(p.Out, text)
	}
}

var someUUID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// stable is what stands for an id in a page: the same each time.
func (p *Printer) stable(id string) string {
	if p.ids == nil {
		p.ids = map[string]string{}
	}
	if p.ids[id] == "" {
		p.ids[id] = fmt.Sprintf("00000000-0000-7000-8000-%012d", len(p.ids)+1)
	}
	return p.ids[id]
}

// in is text in a colour, where there are any.
func (p *Printer) in(color, text string) string {
	if !p.Color {
		return text
	}
	return color + text + reset
}

// since is d, fit for a column of times.
func (p *Printer) since(d time.Duration) string {
	switch {
	case p.Page:
		return "…"
	case d < 10*time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return d.Round(time.Second).String()
}

// pad fills text up to a width, by characters.
func pad(text string, width int) string { return fmt.Sprintf("%-*s", width, text) }

// Page is the page of s in the documentation, with what it printed.
func (s Story) Page(printed string) string {
	return fmt.Sprintf("# %s\n\n%s\n\n```sh\nshopctl scenario %s\n```\n```text\n%s```\n", s.Name, s.Title, s.Name, strings.TrimRight(printed, "\n")+"\n")
}
