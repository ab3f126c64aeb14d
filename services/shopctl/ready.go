package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// readyCommand asks a program whether it can serve, where there is no curl: in
// its container.
type readyCommand struct {
	URL string `arg:"" default:"http://127.0.0.1:8080/readyz" help:"What to ask."`
}

// Help says what comes of it.
func (readyCommand) Help() string {
	return `Exit code 0 means that the answer was 200. It is what a container's health check
runs: the image holds nothing but the programs.`
}

// Run asks once, for at most 2 s.
func (c readyCommand) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	said, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if res.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("%s: %s: %s", c.URL, res.Status, said))
	}
	return errors.Join(err, res.Body.Close())
}
