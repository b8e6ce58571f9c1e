package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Ready is the line with which a process says that its load flows.
type Ready struct{ ID peer.ID }

// tick is how often a sink tells a sender what has arrived.
const tick = 50 * time.Millisecond

// sink takes circuits from others until its time is over, and tells each sender
// what arrived of it, and when.
func (j Job) sink(ctx context.Context, ready func(Ready) error) (Values, error) {
	p, err := Dial(ctx, j.Target, j.Over, j.From)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if err := errors.Join(p.Identify(ctx), p.Reserve(ctx)); err != nil {
		return nil, err
	}
	if err := ready(Ready{p.ID}); err != nil {
		return nil, err
	}
	for {
		select {
		case c := <-p.circuits:
			go take(c)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// The first byte on a circuit to a sink says what follows.
const (
	ofBulk      = 'b'
	ofQuestions = 'q' // of the length question each, which come back
)

const question = 1 << 10

func take(c io.ReadWriteCloser) {
	defer c.Close()
	var kind [1]byte
	if _, err := io.ReadFull(c, kind[:]); err != nil {
		return
	}
	if kind[0] == ofBulk {
		drain(c)
		return
	}
	q := make([]byte, question)
	for {
		if _, err := io.ReadFull(c, q); err != nil {
			return
		}
		if _, err := c.Write(q); err != nil {
			return
		}
	}
}

func drain(c io.ReadWriter) {
	buf := make([]byte, 64<<10)
	var total uint64
	begin := time.Now()
	told := begin
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		total += uint64(n)
		if now := time.Now(); now.Sub(told) >= tick {
			told = now
			report := binary.BigEndian.AppendUint64(nil, total)
			report = binary.BigEndian.AppendUint64(report, uint64(now.Sub(begin)))
			if _, err := c.Write(report); err != nil {
				return
			}
		}
	}
}

// guest is a peer that the relay has identified.
func (j Job) guest(ctx context.Context) (*Peer, error) {
	p, err := Dial(ctx, j.Target, j.Over, j.From)
	if err != nil {
		return nil, err
	}
	if err := p.Identify(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// toSink opens a circuit to a sink.
func (j Job) toSink(ctx context.Context, p *Peer, kind byte) (network.MuxedStream, error) {
	c, err := p.Connect(ctx, j.Dest)
	if err == nil {
		_, err = c.Write([]byte{kind})
	}
	return c, err
}

// ask sends a question to a sink every tenth of a second, and says how long the answers take.
func (j Job) ask(ctx context.Context, _ func(Ready) error) (Values, error) {
	p, err := j.guest(ctx)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	c, err := j.toSink(ctx, p, ofQuestions)
	if err != nil {
		return nil, err
	}
	q := make([]byte, question)
	var took []time.Duration
	every := time.NewTicker(100 * time.Millisecond)
	defer every.Stop()
	for begin := time.Now(); time.Since(begin) < j.For; <-every.C {
		asked := time.Now()
		if err := c.SetDeadline(asked.Add(2 * patience)); err != nil {
			return nil, err
		}
		if _, err := c.Write(q); err != nil {
			return nil, fmt.Errorf("ask: %w", err)
		}
		if _, err := io.ReadFull(c, q); err != nil {
			return nil, fmt.Errorf("hear the answer: %w", err)
		}
		took = append(took, time.Since(asked))
	}
	slices.Sort(took)
	at := func(percent int) float64 { return float64(took[len(took)*percent/100]) / float64(time.Millisecond) }
	return Values{"median_ms": at(50), "p95_ms": at(95)}, nil
}

// send fills a circuit to a sink, and says at what rate it arrived there.
func (j Job) send(ctx context.Context, _ func(Ready) error) (Values, error) {
	p, err := j.guest(ctx)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	c, err := j.toSink(ctx, p, ofBulk)
	if err != nil {
		return nil, err
	}
	failed := make(chan error, 1)
	fill(c, 0, failed)
	begin := time.Now()
	u, err := use(j.Target.PID)
	if err != nil {
		return nil, err
	}
	// Slow links need longer until buffers are full. A report that does not come is a
	// rate of nothing.
	warmUp := max(warmUp, j.For/4)
	if err := c.SetReadDeadline(begin.Add(warmUp + j.For + patience)); err != nil {
		return nil, err
	}
	var first, last [2]uint64
	for {
		var report [16]byte
		if _, err := io.ReadFull(c, report[:]); err != nil {
			select {
			case err = <-failed:
			default:
			}
			return nil, fmt.Errorf("hear from the sink: %w", err)
		}
		last = [2]uint64{binary.BigEndian.Uint64(report[:]), binary.BigEndian.Uint64(report[8:])}
		if since := time.Since(begin); since < warmUp {
			continue
		} else if first == [2]uint64{} {
			first = last
		} else if since > warmUp+j.For {
			break
		}
	}
	cpu, wall, err := u.since()
	if err != nil {
		return nil, err
	}
	return Values{
		"mb_s": float64(last[0]-first[0]) / time.Duration(last[1]-first[1]).Seconds() / 1e6,
		"busy": cpu.Seconds() / wall.Seconds(),
	}, nil
}

// hog fills many circuits to a sink until its time is over.
func (j Job) hog(ctx context.Context, ready func(Ready) error) (Values, error) {
	p, err := j.guest(ctx)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	var circuits []network.MuxedStream
	for n := range j.Peers {
		c, err := j.toSink(ctx, p, ofBulk)
		if err != nil {
			return nil, fmt.Errorf("circuit %d: %w", n+1, err)
		}
		circuits = append(circuits, c)
	}
	failed := make(chan error, j.Peers)
	for _, c := range circuits { // to open one behind full ones takes long
		end := make(chan error, 1)
		fill(c, 0, end)
		go func() {
			_, err := io.Copy(io.Discard, c) // the sink's reports
			failed <- errors.Join(err, <-end)
		}()
	}
	if err := ready(Ready{p.ID}); err != nil {
		return nil, err
	}
	select {
	case err := <-failed:
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
