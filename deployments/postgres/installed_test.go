package postgres

import (
	"errors"
	"strings"
	"testing"
)

func TestInstalledIsWhatStartTakes(t *testing.T) {
	t.Parallel()
	found, err := Installed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), Config{Temp: true})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.Source(), strings.TrimSuffix(found, ")")) { // it goes on to say where that was found
		t.Errorf("Installed says %q, Start takes %q", found, s.Source())
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestInstalledFindsNothingWhereNothingIs(t *testing.T) {
	before := places
	t.Cleanup(func() { places = before })
	places = nil
	t.Setenv("PATH", t.TempDir())
	if found, err := Installed(t.Context()); !errors.Is(err, ErrNoBinaries) {
		t.Errorf("found %q, %v; want %v", found, err, ErrNoBinaries)
	}
}
