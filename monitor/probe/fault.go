package probe

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// fault is why a rung was not passed.
type fault struct {
	outcome evidence.Outcome
	class   evidence.Class
	err     error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

func fail(class evidence.Class, err error) *fault  { return &fault{evidence.Fail, class, err} }
func busy(class evidence.Class, err error) *fault  { return &fault{evidence.Busy, class, err} }
func blind(class evidence.Class, err error) *fault { return &fault{evidence.Blind, class, err} }

// remark is for a rung that was passed, but has something to say.
func remark(text string) *fault { return &fault{outcome: evidence.OK, err: errors.New(text)} }

// asFault finds the fault in err. An error that no rung has classified is one of
// our own: it must not count against the relay.
func asFault(err error) *fault {
	if err == nil {
		return nil
	}
	var f *fault
	if !errors.As(err, &f) {
		return blind(evidence.OwnFault, err)
	}
	if f.class != "" && ownFault(err) {
		return blind(evidence.OwnFault, err)
	}
	return f
}

// ownFault tells the errors that only this machine can be the reason of: no packet
// from elsewhere makes the kernel return them.
func ownFault(err error) bool {
	for _, own := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.EADDRNOTAVAIL,
		syscall.EACCES, syscall.EPERM, syscall.EADDRINUSE, syscall.EAGAIN, syscall.ENOSPC, syscall.ENETDOWN,
		syscall.EINVAL, syscall.EAFNOSUPPORT, syscall.EPROTONOSUPPORT, syscall.ENOSYS, syscall.EBADF, syscall.EIO,
		network.ErrResourceLimitExceeded,
	} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// timeoutOr is failed, or late when time had run out.
func timeoutOr(late, failed evidence.Class, err error) *fault {
	if isTimeout(err) {
		return fail(late, err)
	}
	return fail(failed, err)
}

// Bounds of what is kept of a stranger's words.
const (
	maxDetail    = 300
	maxAgent     = 256
	maxText      = 256
	maxProtocols = 128
	maxAddrs     = 32
	maxIPs       = 16
)

// clean makes a stranger's text fit for one line of evidence.
func clean(s string, limit int) string { return evidence.Clean(s, limit) }
