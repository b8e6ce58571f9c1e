package probe

import (
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// line counts what the monitor's own line did to the packets of one climb: how many
// were sent, and how many of them had to be sent again. A line that loses packets
// makes a relay look as if it were down.
type line struct {
	mu      sync.Mutex
	sockets []*listened
	past    traffic // of connections that are closed, and of those never made
}

// traffic are numbers of packets. Those sent again are part of those sent.
type traffic struct{ sent, resent int64 }

func (t traffic) plus(o traffic) traffic  { return traffic{t.sent + o.sent, t.resent + o.resent} }
func (t traffic) minus(o traffic) traffic { return traffic{t.sent - o.sent, t.resent - o.resent} }

// packets are the numbers as the log takes them. Packets that a rung sent again may turn
// out not to have been lost only while the next one is climbed: that has less than none
// then, and the log would refuse the whole attempt.
func (t traffic) packets() (sent, resent int64) { return max(0, t.sent), max(0, t.resent) }

// watch counts what is sent on c from now on.
func (l *line) watch(c *listened) {
	c.line = l
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sockets = append(l.sockets, c)
}

// closing keeps the count of c, which is about to be closed.
func (l *line) closing(c *listened) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range l.sockets {
		if s == c {
			l.sockets = append(l.sockets[:i], l.sockets[i+1:]...)
			l.past = l.past.plus(c.traffic())
			return
		}
	}
}

// add counts packets that were not sent on a connection of the line.
func (l *line) add(t traffic) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.past = l.past.plus(t)
}

// total is what was sent up to now.
func (l *line) total() traffic {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.past
	for _, s := range l.sockets {
		t = t.plus(s.traffic())
	}
	return t
}

// traffic asks the kernel what it sent on the connection (tcp(7), TCP_INFO). What it
// sent twice although the first had arrived (a D-SACK says so, RFC 2883) was not lost.
func (c *listened) traffic() traffic {
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return traffic{}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return traffic{}
	}
	var t traffic
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			t = traffic{int64(info.Segs_out), max(0, int64(info.Total_retrans)-int64(info.Dsack_dups))}
		}
	})
	return t
}

// unanswered is what the kernel sent for a connection that was not made within d: the
// first packet, and the same again after 1, 3, 7 ... seconds (RFC 6298).
func unanswered(d time.Duration) traffic {
	t := traffic{sent: 1}
	for again, wait := time.Second, 2*time.Second; d >= again; again, wait = again+wait, 2*wait {
		t.sent++
		t.resent++
	}
	return t
}
