package load

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// bulk fills one circuit between two peers.
func (j Job) bulk(ctx context.Context, _ func(Ready) error) (Values, error) {
	p, err := newPair(ctx, j.Target, j.Over, 0)
	if err != nil {
		return nil, err
	}
	defer p.close()
	from, to, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	if j.Amount == 0 {
		return j.measure(ctx, newFlow(1).pump(from, to, 0))
	}
	u, err := use(j.Target.PID)
	if err != nil {
		return nil, err
	}
	return j.all(ctx, newFlow(1).pump(from, to, j.Amount), u)
}

// many fills one circuit each of a number of pairs.
func (j Job) many(ctx context.Context, _ func(Ready) error) (Values, error) {
	f := newFlow(j.Peers)
	for n := range j.Peers {
		p, err := newPair(ctx, j.Target, j.Over, 2*n)
		if err != nil {
			return nil, err
		}
		defer p.close()
		from, to, err := p.open(ctx)
		if err != nil {
			return nil, err
		}
		f.pump(from, to, 0)
	}
	return j.measure(ctx, f)
}

// pair is two peers, the second with a reservation.
type pair struct{ a, b *Peer }

// newPair connects from the addresses n and n+1.
func newPair(ctx context.Context, to Target, over string, n int) (*pair, error) {
	a, err := Dial(ctx, to, over, n)
	if err != nil {
		return nil, err
	}
	b, err := Dial(ctx, to, over, n+1)
	if err != nil {
		a.Close()
		return nil, err
	}
	p := &pair{a, b}
	if err := errors.Join(a.Identify(ctx), b.Identify(ctx), b.Reserve(ctx)); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pair) close() {
	p.a.Close()
	p.b.Close()
}

// open opens a circuit from the first to the second.
func (p *pair) open(ctx context.Context) (from, to io.ReadWriteCloser, err error) {
	if from, err = p.a.Connect(ctx, p.b.ID); err != nil {
		return nil, nil, err
	}
	select {
	case to = <-p.b.circuits:
		return from, to, nil
	case <-time.After(patience):
		return nil, nil, errors.New("the circuit does not arrive")
	}
}

// proxy fills one connection through a TLS proxy, whose back end this is.
func (j Job) proxy(ctx context.Context, _ func(Ready) error) (Values, error) {
	cert, err := tls.LoadX509KeyPair(j.Target.CA, j.Target.CA)
	if err != nil {
		return nil, err
	}
	back, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(j.Target.Addrs["back"]))
	if err != nil {
		return nil, err
	}
	defer back.Close()
	front, err := DialTCP(ctx, j.Target.Addrs["tls"], 0)
	if err != nil {
		return nil, err
	}
	defer front.Close()
	conf, err := clientTLS(j.Target.CA)
	if err != nil {
		return nil, err
	}
	secured := tls.Client(front, conf)
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := secured.HandshakeContext(within); err != nil {
		return nil, err
	}
	if _, err := secured.Write([]byte{1}); err != nil { // some proxies wait for it
		return nil, err
	}
	if err := back.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	raw, err := back.Accept()
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	arriving := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}})
	return j.measure(ctx, newFlow(1).pump(secured, arriving, 0))
}
