package notifications

import (
	"net/netip"
	"testing"
)

func TestURLsOfEndpoints(t *testing.T) {
	t.Parallel()
	_, resolver := newNames(t, map[string][]string{
		"good.example":     {"93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"},
		"loop.example":     {"127.0.0.1"},
		"loop6.example":    {"::1"},
		"mixed.example":    {"93.184.215.14", "10.0.0.1"},
		"metadata.example": {"169.254.169.254"},
		"empty.example":    {},
		"rebound.example":  {"::ffff:127.0.0.1"},
	})
	strict, open := guard{resolver: resolver}, guard{insecure: true, resolver: resolver}
	for _, tt := range []struct {
		url          string
		strict, open bool // taken
	}{
		{"https://good.example/hook", true, true},
		{"https://good.example:8443/hook?token=x", true, true},
		{"https://93.184.215.14/", true, true},
		{"https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/", true, true},

		{"http://good.example/hook", false, true},
		{"https://127.0.0.1/", false, true},
		{"https://127.0.0.1:9/", false, true},
		{"https://[::1]/", false, true},
		{"https://10.1.2.3/", false, true},
		{"https://172.16.0.1/", false, true},
		{"https://192.168.1.1/", false, true},
		{"https://169.254.169.254/latest/meta-data/", false, true},
		{"https://0.0.0.0/", false, true},
		{"https://100.64.0.1/", false, true},
		{"https://[fe80::1]/", false, true},
		{"https://[fd00::1]/", false, true},
		{"https://[::ffff:127.0.0.1]/", false, true},
		{"https://[64:ff9b::7f00:1]/", false, true},
		{"https://[2002:7f00:1::]/", false, true},
		{"https://loop.example/", false, true},
		{"https://LOOP.example/", false, true},
		{"https://loop6.example/", false, true},
		{"https://mixed.example/", false, true},
		{"https://metadata.example/", false, true},
		{"https://rebound.example/", false, true},
		{"https://empty.example/", false, true},
		{"https://unknown.example/", false, true},
		{"https://2130706433/", false, true}, // 127.0.0.1 as one number: a name that nobody has
		{"https://0x7f.1/", false, true},

		{"https://user@good.example/", false, false},
		{"https://user:secret@good.example/", false, false},
		{"https://good.example@127.0.0.1/", false, false},
		{"https://good.example/#part", false, false},
		{"https://good.example:0/", false, false},
		{"https://good.example:65536/", false, false},
		{"https:good.example", false, false},
		{"https:///hook", false, false},
		{"https://", false, false},
		{"https://good example/", false, false},
		{"//good.example/", false, false},
		{"good.example", false, false},
		{"file:///etc/passwd", false, false},
		{"ftp://good.example/", false, false},
		{"gopher://good.example/", false, false},
		{"javascript:alert(1)", false, false},
		{"", false, false},
	} {
		if got := strict.checkURL(t.Context(), tt.url); (got == "") != tt.strict {
			t.Errorf("%q: got %q, want it taken: %v", tt.url, got, tt.strict)
		}
		if got := open.checkURL(t.Context(), tt.url); (got == "") != tt.open {
			t.Errorf("%q in a demo: got %q, want it taken: %v", tt.url, got, tt.open)
		}
	}
}

func TestAddressesThatAreConnectedTo(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"93.184.215.14": true, "8.8.8.8": true, "172.15.255.255": true, "172.32.0.1": true, "192.169.0.1": true, "2a00:1450:4001::1": true,
		"127.0.0.1": false, "127.255.255.254": false, "10.255.255.255": false, "172.31.255.255": false, "192.168.0.1": false, "169.254.0.1": false,
		"0.0.0.0": false, "0.1.2.3": false, "100.127.255.255": false, "192.0.0.1": false, "192.0.2.1": false, "198.19.0.1": false, "198.51.100.1": false,
		"203.0.113.9": false, "224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "::7f00:1": false, "::ffff:10.0.0.1": false, "fe80::1": false, "fe80::1%eth0": false, "fec0::1": false, "fc00::1": false,
		"fd12::1": false, "ff02::1": false, "64:ff9b::a00:1": false, "64:ff9b:1::1": false, "100::1": false, "2001::1": false, "2001:db8::1": false,
		"2002:a00:1::1": false, "3fff::1": false,
	} {
		a := netip.MustParseAddr(address)
		if got := public(a); got != want {
			t.Errorf("%s is public: %v, want %v", address, got, want)
		}
		if got := (guard{}).control("tcp", netip.AddrPortFrom(a, 443).String(), nil) == nil; got != want {
			t.Errorf("%s is connected to: %v, want %v", address, got, want)
		}
	}
	if err := (guard{}).control("tcp", "somewhere:443", nil); err == nil {
		t.Error("a name is connected to unseen")
	}
}
