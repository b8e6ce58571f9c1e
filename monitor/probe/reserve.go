package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// reserve lets peer A ask for a reservation. It is connected over wss, as a
// browser is; where no wss address was given, over tcp4.
func (c *climb) reserve(ctx context.Context) error {
	if err := c.reconnect(ctx, &c.web, overWSS, takesCircuit, c.opts.ProbeKey); err != nil {
		return err
	}
	c.a = c.web
	if c.a == nil {
		h, err := c.connect(ctx, overTCP4, takesCircuit, c.opts.ProbeKey)
		if err != nil {
			return err
		}
		c.a = h
	}
	s, answer, err := c.ask(ctx, c.a, &pb.HopMessage{Type: pb.HopMessage_RESERVE.Enum()}, evidence.ReserveTimeout, evidence.ReserveFailed)
	if err != nil {
		return err
	}
	defer s.Close()
	if conn := c.toRelay(c.a); c.tcp == nil && conn != nil {
		_ = c.identified(ctx, c.a, conn) // for the facts only: the rung identify was not asked for
	}
	status := answer.GetStatus()
	c.attempt.Facts.HopReserve = int32(status)
	switch status {
	case pb.Status_OK:
	case pb.Status_RESERVATION_REFUSED:
		return busy(evidence.ReserveRefused, refusal("reserve", status))
	case pb.Status_RESOURCE_LIMIT_EXCEEDED:
		return busy(evidence.ReserveLimit, refusal("reserve", status))
	case pb.Status_PERMISSION_DENIED:
		return fail(evidence.ReserveDenied, refusal("reserve", status))
	default:
		return fail(evidence.ReserveFailed, refusal("reserve", status))
	}
	granted := answer.GetReservation()
	if granted == nil {
		return fail(evidence.ReserveFailed, errors.New("reserve: status OK without a reservation"))
	}
	expires := time.Unix(int64(min(granted.GetExpire(), maxUnix)), 0)
	r := &evidence.Reservation{
		Peer:         c.a.ID().String(),
		Voucher:      granted.GetVoucher(),
		Expires:      evidence.TimeOf(expires),
		LimitBytes:   int64(min(answer.GetLimit().GetData(), maxLimit)),
		LimitSeconds: int64(answer.GetLimit().GetDuration()),
	}
	for _, b := range granted.GetAddrs() {
		if a, err := ma.NewMultiaddrBytes(b); err == nil && len(r.Addrs) < maxAddrs {
			r.Addrs = append(r.Addrs, clean(a.String(), maxAddr))
		}
	}
	c.attempt.Facts.Reservation = r
	if !expires.After(time.Now()) {
		return fail(evidence.ReserveExpired, fmt.Errorf("the reservation expired at %s", r.Expires))
	}
	if err := checkVoucher(r.Voucher, c.target.PeerID, c.a.ID()); err != nil {
		return fail(evidence.VoucherInvalid, fmt.Errorf("voucher: %w", err))
	}
	c.attempt.Level = evidence.LevelReserved
	if c.web == nil {
		return remark("over tcp4, since no wss address was given")
	}
	return nil
}

// Bounds that keep a relay's numbers writable: the year 9999, and what is exact
// in JSON.
const (
	maxUnix  = 253402300799
	maxLimit = 1<<53 - 1
)

// checkVoucher checks that the envelope is the relay's signature for this
// reservation. A relay need not give one (circuit v2 leaves it open): what is
// not there cannot be wrong.
func checkVoucher(envelope []byte, relay, reserving peer.ID) error {
	if len(envelope) == 0 {
		return nil
	}
	env, rec, err := record.ConsumeEnvelope(envelope, proto.RecordDomain)
	if err != nil {
		return err
	}
	v, ok := rec.(*proto.ReservationVoucher)
	if !ok {
		return fmt.Errorf("holds a %T", rec)
	}
	signer, err := peer.IDFromPublicKey(env.PublicKey)
	switch {
	case err != nil:
		return err
	case signer != relay:
		return fmt.Errorf("signed by %s, not by the relay", signer)
	case v.Relay != relay:
		return fmt.Errorf("names the relay %s", v.Relay)
	case v.Peer != reserving:
		return fmt.Errorf("names the peer %s, but %s reserved", v.Peer, reserving)
	case !v.Expiration.After(time.Now()):
		return fmt.Errorf("expired at %s", evidence.TimeOf(v.Expiration))
	}
	return nil
}
