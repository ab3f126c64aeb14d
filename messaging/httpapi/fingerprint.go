package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Fingerprint is the SHA-256 (hex) of a JSON body in canonical form: the same
// for other white space, member order and escapes, another for other values. It
// returns an error when body is no JSON.
func Fingerprint(body []byte) (string, error) {
	if !json.Valid(body) {
		return "", fmt.Errorf("fingerprint %d bytes: not JSON", len(body))
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber() // as written: a float would make big integers equal
	if err := d.Decode(&v); err != nil {
		return "", fmt.Errorf("fingerprint %d bytes: %w", len(body), err)
	}
	canonical, err := json.Marshal(v) // sorts members
	if err != nil {
		return "", fmt.Errorf("fingerprint %d bytes: %w", len(body), err)
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:]), nil
}
