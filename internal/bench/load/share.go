package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

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
			go drain(c)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func drain(c io.ReadWriteCloser) {
	defer c.Close()
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

// send fills a circuit to a sink, and says at what rate it arrived there.
func (j Job) send(ctx context.Context, _ func(Ready) error) (Values, error) {
	p, err := Dial(ctx, j.Target, j.Over, j.From)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if err := p.Identify(ctx); err != nil {
		return nil, err
	}
	c, err := p.Connect(ctx, j.Dest)
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
	// A report that does not come is a rate of nothing.
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
	p, err := Dial(ctx, j.Target, j.Over, j.From)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if err := p.Identify(ctx); err != nil {
		return nil, err
	}
	failed := make(chan error, j.Peers)
	for n := range j.Peers {
		c, err := p.Connect(ctx, j.Dest)
		if err != nil {
			return nil, fmt.Errorf("circuit %d: %w", n+1, err)
		}
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
