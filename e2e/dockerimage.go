package e2e

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/client"
)

// imagePrograms are those that people run in containers; they start the demo
// and the benchmark outside.
var imagePrograms = append([]string{"shopctl"}, services...)

// imageRecipe is what deployments/Dockerfile ends with, for programs that are
// built already: it needs no registry.
const imageRecipe = `FROM scratch
COPY programs/ /
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV ADDR=0.0.0.0:8080
USER 65532:65532
EXPOSE 8080
`

// roots are where systems keep the certificates that they trust.
var roots = []string{
	"/etc/ssl/certs/ca-certificates.crt", // Debian, Alpine
	"/etc/pki/tls/certs/ca-bundle.crt",   // Red Hat
	"/etc/ssl/ca-bundle.pem",             // SUSE
	"/etc/ssl/cert.pem",                  // macOS, BSD
}

// buildImage makes the image of all programs under the name.
func buildImage(ctx context.Context, c *client.Client, name string, labels map[string]string) error {
	programs, err := builtForLinux()
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := writeImage(w, programs)
		w.CloseWithError(err)
		sent <- err
	}()
	res, err := c.ImageBuild(ctx, r, client.ImageBuildOptions{
		Tags: []string{name}, Labels: labels, Remove: true, ForceRemove: true, SuppressOutput: true,
	})
	if err == nil {
		err = errors.Join(readBuild(res.Body), res.Body.Close())
	}
	// What has failed reads no more of it.
	r.CloseWithError(io.ErrClosedPipe)
	if sendErr := <-sent; err == nil && sendErr != nil {
		err = sendErr
	}
	if err != nil {
		return fmt.Errorf("build the image of the programs: %w", err)
	}
	return nil
}

// writeImage writes what the recipe needs, and the recipe.
func writeImage(w io.Writer, programs string) error {
	t := tar.NewWriter(w)
	if err := addBytes(t, "Dockerfile", 0o644, []byte(imageRecipe)); err != nil {
		return err
	}
	trusted := []byte{}
	for _, path := range roots {
		b, err := os.ReadFile(path)
		if err == nil {
			trusted = b
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := addBytes(t, "ca-certificates.crt", 0o644, trusted); err != nil {
		return err
	}
	for _, name := range imagePrograms {
		if err := addFile(t, "programs/"+name, filepath.Join(programs, name)); err != nil {
			return err
		}
	}
	return t.Close()
}

func addBytes(t *tar.Writer, name string, mode int64, b []byte) error {
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(b))}); err != nil {
		return err
	}
	_, err := t.Write(b)
	return err
}

func addFile(t *tar.Writer, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil {
		err = t.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: st.Size()})
	}
	if err == nil {
		_, err = io.Copy(t, f)
	}
	return errors.Join(err, f.Close())
}

// readBuild reads what Docker says of the build to its end.
func readBuild(r io.Reader) error {
	for d := json.NewDecoder(r); ; {
		var said struct {
			Error string `json:"error"`
		}
		err := d.Decode(&said)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && said.Error != "" {
			err = errors.New(strings.TrimSpace(said.Error))
		}
		if err != nil {
			return err
		}
	}
}
