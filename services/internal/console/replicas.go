package console

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/orderflow/messaging/httpapi"
)

const (
	lookEvery  = time.Second     // how often replicas are looked for, and asked whether they are ready
	dialLimit  = time.Second     // for a connection to a replica
	readyLimit = 3 * time.Second // for GET /readyz: a service takes up to 2 s to say that its database is away
)

// replicas is an http.RoundTripper to one service that runs in several copies. It
// takes them in turn and passes over those that are down: that refuse connections,
// aren't ready, or say that they are about to end. When all are, each is tried
// all the same: better than to refuse for them.
//
// A request goes on to the next replica when it is certain, or harmless, that it
// isn't done twice: when no connection came about, so that nothing was sent; when
// another service says that the address is its own now (httpapi.ServiceHeader); or
// when the answer got lost and the request may be repeated (GET, or anything under
// an Idempotency-Key, as net/http sees it, too). Any answer is passed on as it is,
// a 503 too: whether to ask again is the client's decision, and one that fans out
// to all replicas would make an overload worse.
//
// When nobody takes a connection, names are looked up at once: who is started again
// may have another address than before.
type replicas struct {
	service string
	bases   []*url.URL
	fixed   bool // one address, so that there is nothing to look for
	log     *slog.Logger
	list    atomic.Pointer[[]*replica]
	turn    atomic.Uint32
	stop    context.CancelFunc
	watch   sync.WaitGroup

	finding sync.Mutex
	found   time.Time // when the last look-up began
}

// replica is one copy: a host name may stand for several, as the names of
// headless services do in Kubernetes and those of scaled ones in Compose.
type replica struct {
	service   string
	base      *url.URL
	addr      string // where it is dialled: an IP address and a port
	transport *http.Transport
	down      atomic.Bool
}

// newReplicas returns the replicas of service at addresses, base URLs without a
// path. Close it.
func newReplicas(service string, addresses []string, log *slog.Logger) (*replicas, error) {
	r := &replicas{service: service, log: log, fixed: len(addresses) < 2}
	for _, a := range addresses {
		base, err := url.Parse(a)
		if err != nil {
			return nil, err
		}
		if base.Path != "" && base.Path != "/" {
			return nil, fmt.Errorf("%s has a path", a)
		}
		r.bases = append(r.bases, base)
		r.fixed = r.fixed && net.ParseIP(base.Hostname()) != nil
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.find(ctx)
	if !r.fixed {
		r.watch.Go(func() { r.look(ctx) })
	}
	return r, nil
}

// close ends the looking and drops idle connections.
func (r *replicas) close() {
	r.stop()
	r.watch.Wait()
	for _, p := range *r.list.Load() {
		p.transport.CloseIdleConnections()
	}
}

// look keeps the list true until ctx ends.
func (r *replicas) look(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		list := *r.list.Load()
		var asked sync.WaitGroup
		for _, p := range list {
			if len(list) > 1 { // the only one is tried in any case
				asked.Go(func() { r.note(p, p.ready(ctx)) })
			}
		}
		asked.Wait()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		r.find(ctx)
	}
}

// find looks the host names up and lists the replicas behind them; what another call
// has begun to look up meanwhile will do. When nobody answers what a name stands for,
// those stay that were there before; when there is no such name, there are none:
// their addresses may be somebody else's soon.
func (r *replicas) find(ctx context.Context) {
	called := time.Now()
	r.finding.Lock()
	defer r.finding.Unlock()
	if r.found.After(called) {
		return
	}
	r.found = time.Now()
	var before []*replica
	if list := r.list.Load(); list != nil {
		before = *list
	}
	var now []*replica
	for _, base := range r.bases {
		ips, err := lookUp(ctx, base.Hostname())
		if none := new(net.DNSError); errors.As(err, &none) && none.IsNotFound {
			err = nil
		}
		if err != nil && ctx.Err() == nil {
			r.log.Warn("replicas can't be looked up", "addr", base.Host, "err", err)
		}
		known := map[string]*replica{}
		for _, p := range before {
			if p.base == base {
				known[p.addr] = p
				if err != nil {
					now = append(now, p)
				}
			}
		}
		for _, ip := range ips {
			addr := net.JoinHostPort(ip, portOf(base))
			p := known[addr]
			if p == nil {
				p = &replica{service: r.service, base: base, addr: addr, transport: transport(addr)}
			}
			delete(known, addr)
			now = append(now, p)
		}
		if err == nil {
			for _, p := range known {
				p.transport.CloseIdleConnections()
			}
		}
	}
	r.list.Store(&now)
}

func lookUp(ctx context.Context, host string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	return net.DefaultResolver.LookupHost(ctx, host)
}

func portOf(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return port
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

// transport connects to addr, whatever the URL's host is called. It gives up on a
// replica that doesn't take a connection; how long an answer takes is the service's
// business (Prefer: wait).
func transport(addr string) *http.Transport {
	dialer := net.Dialer{Timeout: dialLimit}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, addr)
		},
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       30 * time.Second,
		ResponseHeaderTimeout: time.Minute,
	}
}

// note notes whether p may be asked: it may when err is nil.
func (r *replicas) note(p *replica, err error) {
	down := err != nil
	if p.down.Swap(down) == down {
		return
	}
	if down {
		r.log.Info("replica is passed over", "addr", p.addr, "err", err)
		return
	}
	r.log.Info("replica is asked again", "addr", p.addr)
}

// inTurn lists all replicas, those that are down at the end.
func (r *replicas) inTurn() []*replica {
	list := *r.list.Load()
	start := int(r.turn.Add(1) % uint32(max(1, len(list))))
	up, down := make([]*replica, 0, len(list)), []*replica(nil)
	for i := range list {
		if p := list[(start+i)%len(list)]; p.down.Load() {
			down = append(down, p)
		} else {
			up = append(up, p)
		}
	}
	return append(up, down...)
}

// errEnding is why a replica is passed over that is about to end: it closes
// connections after the answer (see boot).
var errEnding = errors.New("it closes its connections")

// RoundTrip has one of the replicas answer req. It may be used by several
// goroutines at once.
func (r *replicas) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := readBody(req)
	if err != nil {
		return nil, err
	}
	list := r.inTurn()
	res, another, err := r.ask(list, req, body)
	if !another || r.fixed {
		return res, err
	}
	r.find(context.WithoutCancel(req.Context())) // others wait for what it finds
	moved := slices.DeleteFunc(r.inTurn(), func(p *replica) bool { return slices.Contains(list, p) })
	if len(moved) == 0 {
		return nil, err
	}
	res, _, err = r.ask(moved, req, body)
	return res, err
}

// ask has one in the list answer req. When there is an error, another may be asked
// if that can't have req done twice.
func (r *replicas) ask(list []*replica, req *http.Request, body []byte) (res *http.Response, another bool, err error) {
	if len(list) == 0 {
		return nil, true, errors.New("no replica is known")
	}
	var errs []error
	for _, p := range list {
		res, err := p.send(req, body)
		if err == nil && !res.Close {
			return res, false, nil
		}
		if req.Context().Err() != nil {
			return res, false, err // the client has gone
		}
		if len(list) > 1 {
			r.note(p, cmp.Or(err, errEnding))
		}
		if err == nil {
			// It closes the idle ones soon, and whoever took one of them just then
			// wouldn't know what came of its request.
			p.transport.CloseIdleConnections()
			return res, false, nil
		}
		errs = append(errs, err)
		if !undone(err) && !repeatable(req) {
			return nil, false, errors.Join(errs...)
		}
	}
	return nil, true, errors.Join(errs...)
}

// readBody reads the whole body, since it may have to be sent again.
func readBody(req *http.Request) ([]byte, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(req.Body)
	return body, errors.Join(err, req.Body.Close())
}

// errStranger is why an address is passed over that another service has now.
var errStranger = errors.New("another service is at this address")

// send sends req with the body to p.
func (p *replica) send(req *http.Request, body []byte) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.URL.Scheme, out.URL.Host, out.Host = p.base.Scheme, p.base.Host, ""
	out.Header.Set(httpapi.ServiceHeader, p.service)
	if body != nil {
		// With GetBody net/http repeats by itself what met a connection that was closed
		// while idle, under the same rule as ours.
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		out.Body, out.ContentLength, out.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	}
	res, err := p.transport.RoundTrip(out)
	if err == nil && res.StatusCode == http.StatusMisdirectedRequest {
		return nil, errors.Join(errStranger, res.Body.Close())
	}
	return res, err
}

// ready returns nil when p says that it can serve.
func (p *replica) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/readyz", nil)
	if err != nil {
		return err
	}
	res, err := p.send(req, nil)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /readyz: %s", res.Status)
	}
	return nil
}

// undone reports whether err means that nobody has begun to do what was asked.
func undone(err error) bool {
	var op *net.OpError
	return errors.Is(err, errStranger) || errors.As(err, &op) && op.Op == "dial"
}

// repeatable reports whether req may be sent once more although it may have been
// carried out.
func repeatable(req *http.Request) bool {
	return req.Method == http.MethodGet || req.Method == http.MethodHead || req.Header.Get("Idempotency-Key") != ""
}
