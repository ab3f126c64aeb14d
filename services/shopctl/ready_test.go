package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestReadyAsksForA200(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		if _, err := w.Write([]byte(`{"reason":"stopping"}`)); err != nil {
			t.Error(err)
		}
	}))
	if err := (readyCommand{URL: s.URL}).Run(t.Context()); err != nil {
		t.Errorf("200: got %v", err)
	}
	status = http.StatusServiceUnavailable
	err := readyCommand{URL: s.URL}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("503: got %v, want an error that says so and why", err)
	}
	s.Close()
	if err := (readyCommand{URL: s.URL}).Run(t.Context()); err == nil {
		t.Error("nobody listens: got no error")
	}
}
