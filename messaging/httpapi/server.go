package httpapi

import (
	"net/http"
	"time"
)

// NewServer returns a server for handler with limits on slow and idle clients.
// An answer may take as long as the longest Prefer: wait, with room to spare.
func NewServer(addr string, handler http.Handler) *http.Server {
	return &http.Server{
		Addr:              addr,
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      90 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
}
