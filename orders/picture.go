package orders

import (
	"fmt"
	"slices"
	"strings"
)

// Mermaid draws the transition table as a Mermaid state diagram. Moves that stay
// where they are, repeated commands above all, are left out; those that every
// status has which waits for a service stand in a note.
func Mermaid() string {
	type arrow struct{ from, to Status }
	var arrows []arrow
	labels := map[arrow][]string{}
	var ends, waiting []Status
	for _, t := range transitions {
		if t.To.Ended() && !slices.Contains(ends, t.To) {
			ends = append(ends, t.To)
		}
		for _, f := range t.From {
			switch {
			case f == t.To:
				continue
			case t.To == NeedsAttention && slices.Contains(t.On, DeadlineUp):
				waiting = append(waiting, f)
				continue
			case t.Resume != Unplaced:
				continue
			}
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
	}
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n")
	for _, a := range arrows {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", node(a.from), node(a.to), strings.Join(labels[a], ", "))
	}
	for _, s := range ends {
		fmt.Fprintf(&b, "    %s --> %s\n", node(s), node(Unplaced))
	}
	fmt.Fprintf(&b, "    note right of %s\n", NeedsAttention)
	fmt.Fprintf(&b, "        also from these, when %d repeated commands got no answer:\n", maxResends)
	for group := range slices.Chunk(waiting, 4) {
		names := make([]string, len(group))
		for i, s := range group {
			names[i] = string(s)
		}
		fmt.Fprintf(&b, "        %s\n", strings.Join(names, ", "))
	}
	fmt.Fprintf(&b, "        %s takes an order up again where it was\n", OperatorRetry)
	b.WriteString("    end note\n")
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
