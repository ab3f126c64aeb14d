package orders

import (
	"fmt"
	"slices"
	"strings"
)

// Mermaid draws the transition table as a Mermaid state diagram. Moves that stay
// where they are, repeated commands above all, are left out.
func Mermaid() string {
	type arrow struct{ from, to Status }
	var arrows []arrow
	labels := map[arrow][]string{}
	var ends []Status
	for _, t := range transitions {
		if t.Stays {
			continue
		}
		for _, f := range t.From {
			a := arrow{f, t.To}
			if !slices.Contains(arrows, a) {
				arrows = append(arrows, a)
			}
			for _, trigger := range t.On {
				if l := t.label(trigger); !slices.Contains(labels[a], l) {
					labels[a] = append(labels[a], l)
				}
			}
		}
		if t.To.Ended() && !slices.Contains(ends, t.To) {
			ends = append(ends, t.To)
		}
	}
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n")
	for _, a := range arrows {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", node(a.from), node(a.to), strings.Join(labels[a], ", "))
	}
	for _, s := range ends {
		fmt.Fprintf(&b, "    %s --> %s\n", node(s), node(Unplaced))
	}
	return b.String()
}

// label says what triggers t, without the owner in a message's kind.
func (t Transition) label(trigger string) string {
	_, name, found := strings.Cut(trigger, ".")
	if !found {
		name = trigger
	}
	if t.To == Compensating {
		name += " (to end " + string(t.EndsAs) + ")"
	}
	return name
}

func node(s Status) string {
	if s == Unplaced {
		return "[*]"
	}
	return string(s)
}
