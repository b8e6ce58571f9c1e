package coord

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/encoding/protowire"
)

// MaxMessage bounds one frame of gossipsub, that is, one RPC with the messages in it.
// It is what js-libp2p reads at most (4 MiB, it-length-prefixed); js-libp2p sends
// frames of any length.
const MaxMessage = 4 << 20

const (
	// The most that a frame holds beside the data of its messages, as go-libp2p-pubsub has
	// it by default: 8,700 subscriptions, or 11,000 message IDs.
	maxControl = 512 << 10
	// How many things a frame may name. js gossipsub 17 reads 5,000 of each kind.
	// Each takes two bytes at least on the wire, and about a hundred in memory.
	maxEntries = 16 << 10
	// Frames that are not larger need no room: a peer has no more of them under way
	// than it has connections.
	smallFrame = 4 << 10
	// A stream whose next frame is said to be longer holds no frames.
	senseless = 64 << 20
)

// Memory for larger frames, of all neighbours together: those that arrive, until
// gossipsub looked at them, and those that are being sent.
const (
	readingRoom = 16 << 20
	sendingRoom = 32 << 20
)

// frameReader stands between gossipsub and a stream from a neighbour. Gossipsub
// reserves memory as soon as a length is read, and resets the stream over a frame
// that it does not want; a js-libp2p peer never opens it again while the connection
// lives. Here memory is taken for bytes that came, and a frame that is too much is
// skipped, and counted.
type frameReader struct {
	network.Stream
	streams *streams
	out     []byte // what is handed on: a frame with its length
	at      int
	handed  *frame        // the last that was handed on; nil: gossipsub has it
	wait    time.Duration // before the next frame is read
	err     error         // the end; gossipsub asks twice
}

// frame is one that was handed on and that gossipsub has not looked at yet.
type frame struct{ *claim }

// Read hands on whole frames.
func (r *frameReader) Read(p []byte) (int, error) {
	for r.at == len(r.out) {
		// Gossipsub asks for the next frame when it has queued the last one.
		r.handed, r.out, r.at = nil, nil, 0
		if r.err == nil {
			if r.wait > 0 {
				r.streams.sleep(r.wait)
			}
			r.err = r.next()
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.out[r.at:])
	if r.at += n; r.at == len(r.out) {
		r.out, r.at = nil, 0 // gossipsub has a copy
	}
	return n, nil
}

// next reads one frame. It leaves nothing to hand on where the frame was skipped.
func (r *frameReader) next() error {
	size, err := binary.ReadUvarint(oneByOne{r.Stream})
	if err != nil {
		return err
	}
	named := 0
	defer func() { r.wait = r.streams.guard.handles(r.Conn().RemotePeer(), 1+named) }()
	switch {
	case size > senseless:
		return fmt.Errorf("a frame of %d bytes is announced", size)
	case size == 0:
		return nil
	}
	n := int(size)
	if n > MaxMessage {
		return r.skip(n, n, dropOversize)
	}
	// No frame that is larger than what stands beside messages is without a message.
	if n > maxControl && !r.streams.guard.affords(r.Conn().RemotePeer(), n) {
		return r.skip(n, n, dropPeerBudget)
	}
	data, c, left, err := r.body(n)
	switch {
	case err != nil:
		return err
	case data == nil:
		return r.skip(n, left, dropReading)
	}
	var ok bool
	if named, ok = sensible(data[len(data)-n:]); !ok {
		c.release()
		r.streams.drops.count(dropControl, n)
		return nil
	}
	r.out, r.handed = data, &frame{c}
	r.streams.arrived(r.Conn().RemotePeer(), r.handed)
	return nil
}

// body reads a frame of n bytes and puts the length before it. The data are nil when
// there was no room for it, and left says how much of it is still to come.
func (r *frameReader) body(n int) (data []byte, c *claim, left int, err error) {
	length := binary.AppendUvarint(nil, uint64(n))
	if n <= smallFrame {
		data = append(length, make([]byte, n)...)
		_, err = io.ReadFull(r.Stream, data[len(length):])
		return data, nil, 0, whole(err)
	}
	// Until it is whole, the frame is the room's to take away: nothing here keeps it.
	held := length
	share := r.streams.reading.claim(func() { held = nil })
	defer func() {
		if data == nil {
			share.release()
		}
	}()
	chunk := make([]byte, smallFrame)
	for got, size := 0, 0; got < n; {
		k, err := r.Stream.Read(chunk[:min(len(chunk), n-got)])
		got += k
		left = n - got
		if k > 0 {
			if got > size {
				more := min(n, max(2*size, 2*smallFrame))
				if !share.grow(more - size) {
					return nil, nil, left, whole(err)
				}
				if !share.move(0, func() { held = append(make([]byte, 0, len(length)+more), held...) }) {
					return nil, nil, left, whole(err)
				}
				size = more
			}
			if !share.move(k, func() { held = append(held, chunk[:k]...) }) {
				return nil, nil, left, whole(err)
			}
		}
		if err != nil && left > 0 {
			return nil, nil, left, whole(err)
		}
	}
	if !share.move(0, func() { data, share.whole = held, true }) {
		return nil, nil, 0, nil
	}
	return data, share, 0, nil
}

// whole says that an end within a frame is none that gossipsub should be polite about.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// skip reads on to the end of a frame of n bytes, of which left are to come.
func (r *frameReader) skip(n, left int, why drop) error {
	r.streams.drops.count(why, n)
	chunk := make([]byte, smallFrame)
	for left > 0 {
		k, err := r.Stream.Read(chunk[:min(len(chunk), left)])
		left -= k
		if err != nil && left > 0 {
			return whole(err)
		}
	}
	return nil
}

// ended is called when gossipsub has left the stream. What was handed on, and not
// followed by the wish for more, it could not read.
func (r *frameReader) ended() {
	if r.handed != nil {
		r.streams.refused(r.Conn().RemotePeer(), r.handed)
	}
}

// sensible says how many things a frame names, and whether gossipsub can read it without
// much memory: it would reset the stream over one with too much beside the messages.
func sensible(data []byte) (named int, ok bool) {
	named, ok = entries(data, 2, 0)
	// The size is wrong also of a frame that is no protobuf. A js-libp2p peer ignores such a one.
	return named, ok && named <= maxEntries && pb.ValidateRawRPCControlMessageSize(data, maxControl) == nil
}

// entries counts the fields of length-delimited kind down to depth: subscriptions,
// messages, and in what controls gossipsub the things that it names. What a message
// holds is not counted, since it is not made of parts.
func entries(data []byte, depth, n int) (int, bool) {
	for len(data) > 0 {
		field, kind, tag := protowire.ConsumeTag(data)
		if tag < 0 {
			return n, false
		}
		value := protowire.ConsumeFieldValue(field, kind, data[tag:])
		if value < 0 {
			return n, false
		}
		if n++; n > maxEntries {
			return n, true
		}
		const control = 3 // field of pb.RPC
		if kind == protowire.BytesType && (depth == 1 || depth == 2 && field == control) {
			inner, _ := protowire.ConsumeBytes(data[tag:])
			var ok bool
			if n, ok = entries(inner, depth-1, n); !ok {
				return n, false
			}
		}
		data = data[tag+value:]
	}
	return n, true
}

// oneByOne reads the length that stands before a frame.
type oneByOne struct{ io.Reader }

func (r oneByOne) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r.Reader, b[:])
	return b[0], err
}
