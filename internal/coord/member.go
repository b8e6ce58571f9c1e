package coord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

// What private messages may cost: each one that is for us takes an ECDH, each
// answer two more and two messages that go through the network.
const (
	answersPerSecond, answersBurst = 10, 50
	// Peers that are not connected to us cost their author nothing.
	distantAnswersPerSecond = 2
	// A peer measures us once in two minutes.
	peerAnswersEvery, peerAnswersBurst = 5 * time.Second, 10
)

// MemberConfig is what a Member needs. Log may be nil.
type MemberConfig struct {
	PubSub *pubsub.PubSub // of NewPubSub
	ID     peer.ID        // of the host under it
	Key    *Key           // kept by the caller: peers remember its public half
	// Announcement says what is to be announced now. Peer ID, time and key are
	// filled in. It is first called after Ready.
	Announcement func() Announcement
	// About is what a peer is told that measures our latency; small, since
	// gossipsub carries it to everybody. nil: name, version and protocol as
	// announced.
	About func() any
	Log   *slog.Logger
}

// MemberMemory is what a Member and its pubsub take at most for peers that others
// make up, however many of them are announced: the directory, the private topics,
// and the ids of the messages that NewPubSub let through in the two minutes for
// which gossipsub remembers them.
const MemberMemory = 32 << 20

// Member is a relay's part in the network: it announces the relay, relays the
// topics that other peers need, answers private messages, and knows who else is
// a member.
type Member struct {
	cfg       MemberConfig
	dir       *directory
	listener  *Listener
	events    *pubsub.TopicEventHandler
	inbox     *pubsub.Subscription
	inboxOf   *pubsub.Topic
	courtesy  []relayedTopic
	topics    *topics // of keep alone
	replies   chan reply
	newcomers chan struct{}
	changed   chan struct{}
	ready     chan struct{}
	readyOnce sync.Once
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	mu    sync.Mutex
	stats MemberStats
}

// MemberStats are numbers for a status page.
type MemberStats struct {
	Neighbours    int       // connected peers on the coordination topic
	Members       int       // neighbours and others that count as members
	PrivateTopics int       // relayed
	LastAnnounced time.Time // zero: not yet, or nobody was there to hear it
	Answered      uint64    // latency measurements answered
}

// reply is a message to a peer's private topic.
type reply struct {
	to   peer.ID
	data []byte
}

// Join makes the relay a member. It announces nothing before Ready.
func Join(cfg MemberConfig) (*Member, error) {
	if cfg.PubSub == nil || cfg.ID == "" || cfg.Key == nil || cfg.Announcement == nil {
		return nil, errors.New("join the coordination topic: pubsub, peer ID, key and announcement are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m := &Member{
		cfg:       cfg,
		dir:       newDirectory(),
		topics:    newTopics(cfg.PubSub, cfg.Log),
		replies:   make(chan reply, answersBurst),
		newcomers: make(chan struct{}, 1),
		changed:   make(chan struct{}, 1),
		ready:     make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	if err := m.join(); err != nil {
		return nil, errors.Join(fmt.Errorf("join the coordination topic: %w", err), m.Close())
	}
	m.wg.Go(func() { m.watch(ctx) })
	m.wg.Go(func() { m.keep(ctx) })
	m.wg.Go(func() { m.announce(ctx) })
	m.wg.Go(func() { m.read(ctx) })
	return m, nil
}

func (m *Member) join() (err error) {
	if m.listener, err = Listen(m.cfg.PubSub, m.heard); err != nil {
		return err
	}
	if m.events, err = m.listener.topic.EventHandler(); err != nil {
		return err
	}
	for _, name := range []string{ChatTopic, CoinJoinTopic} {
		topic, err := m.cfg.PubSub.Join(name)
		if err != nil {
			return err
		}
		stop, err := topic.Relay()
		if err != nil {
			return errors.Join(err, topic.Close())
		}
		m.courtesy = append(m.courtesy, relayedTopic{topic, stop})
	}
	if m.inboxOf, err = m.cfg.PubSub.Join(m.cfg.ID.String()); err != nil {
		return err
	}
	// By bytes this queue is bounded only together with MaxMessage: keep it short.
	m.inbox, err = m.inboxOf.Subscribe(pubsub.WithBufferSize(16))
	return err
}

// Ready says that the relay is complete and can be dialled: the first
// announcement follows. A peer tries a relay once, with what it first hears.
func (m *Member) Ready() { m.readyOnce.Do(func() { close(m.ready) }) }

// Close leaves the network.
func (m *Member) Close() error {
	m.cancel()
	if m.inbox != nil {
		m.inbox.Cancel()
	}
	m.wg.Wait()
	m.topics.leaveAll()
	var errs []error
	for _, c := range m.courtesy {
		c.stop()
		errs = append(errs, c.Topic.Close())
	}
	if m.inboxOf != nil {
		errs = append(errs, m.inboxOf.Close())
	}
	if m.events != nil {
		m.events.Cancel()
	}
	if m.listener != nil {
		errs = append(errs, m.listener.Close())
	}
	return errors.Join(errs...)
}

// Announced says when the last announcement of a peer arrived, if that is not
// longer ago than MaxAge.
func (m *Member) Announced(id peer.ID) (time.Time, bool) {
	e, _ := m.dir.get(id)
	return e.heard, e.announced(clock())
}

// SubscribedSince says since when a connected peer is on the coordination topic.
func (m *Member) SubscribedSince(id peer.ID) (time.Time, bool) {
	e, _ := m.dir.get(id)
	return e.subscribed, e.near()
}

// IsMember says whether a peer is known as part of the network: it announced
// itself within MaxAge, or is on the topic for at most ten minutes. It is a hint
// and no proof, since anybody can announce.
func (m *Member) IsMember(id peer.ID) bool {
	e, ok := m.dir.get(id)
	return ok && e.member(clock())
}

// Stats counts.
func (m *Member) Stats() MemberStats {
	near, distant := m.dir.members(clock())
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.Members = len(near) + len(distant)
	return s
}

// heard is called for each announcement, one after the other.
func (m *Member) heard(h Heard) {
	if h.PeerID == m.cfg.ID {
		return
	}
	m.dir.announce(h)
	wake(m.changed)
}

// watch follows who comes to the coordination topic and who leaves.
func (m *Member) watch(ctx context.Context) {
	for {
		e, err := m.events.NextPeerEvent(ctx)
		if err != nil {
			return
		}
		switch e.Type {
		case pubsub.PeerJoin:
			m.dir.subscribe(e.Peer, clock())
			wake(m.newcomers)
		case pubsub.PeerLeave:
			m.dir.leave(e.Peer)
		}
		wake(m.changed)
	}
}

// keep has the right private topics relayed, and sends the replies, for which it
// holds the topics.
func (m *Member) keep(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-m.replies:
			if err := m.send(ctx, r); err != nil && ctx.Err() == nil {
				m.cfg.Log.Debug("could not answer a private message", "peer", r.to.String(), "error", err)
			}
			continue
		case <-m.changed:
			// What else changes within a moment is handled with it.
			if settled == nil {
				settled = time.After(50 * time.Millisecond)
			}
			continue
		case <-settled:
			settled = nil
		case <-tick.C: // members expire, and the rate of joining may allow more
		}
		now := clock()
		m.dir.expire(now)
		near, distant := m.dir.members(now)
		m.topics.relay(near, distant, now)
		m.mu.Lock()
		m.stats.PrivateTopics = len(m.topics.relayed)
		m.stats.Neighbours = m.dir.neighbours()
		m.mu.Unlock()
	}
}

func (m *Member) send(ctx context.Context, r reply) error {
	if t, ok := m.topics.relayed[r.to]; ok {
		return t.Publish(ctx, r.data)
	}
	// There was no room to relay this topic, but an answer can still go out.
	t, err := m.cfg.PubSub.Join(r.to.String())
	if err != nil {
		return err
	}
	return errors.Join(t.Publish(ctx, r.data), t.Close())
}

// announce makes the announcements.
func (m *Member) announce(ctx context.Context) {
	select {
	case <-m.ready:
	case <-ctx.Done():
		return
	}
	repeat(ctx, m.newcomers, func() bool {
		if m.dir.neighbours() == 0 {
			return false
		}
		if err := m.announceOnce(ctx); err != nil && ctx.Err() == nil {
			m.cfg.Log.Error("could not announce the relay to the PSF network", "error", err)
		}
		return true
	})
}

func (m *Member) announceOnce(ctx context.Context) error {
	a := m.cfg.Announcement()
	a.PeerID, a.BroadcastedAt, a.EncryptPubKey = m.cfg.ID, clock(), m.cfg.Key.Public()
	data, err := a.Encode()
	if err != nil {
		return err
	}
	if err := m.listener.topic.Publish(ctx, data); err != nil {
		return err
	}
	m.mu.Lock()
	m.stats.LastAnnounced = a.BroadcastedAt
	m.mu.Unlock()
	return nil
}

// read answers what arrives on the relay's own private topic.
func (m *Member) read(ctx context.Context) {
	all := rate.NewLimiter(answersPerSecond, answersBurst)
	distant := rate.NewLimiter(distantAnswersPerSecond, answersBurst)
	senders, err := simplelru.NewLRU[peer.ID, *rate.Limiter](maxPeers, nil)
	if err != nil {
		panic(err) // a size that is not positive
	}
	seen, err := simplelru.NewLRU[string, struct{}](maxPeers, nil)
	if err != nil {
		panic(err)
	}
	for {
		msg, err := m.inbox.Next(ctx)
		if err != nil {
			return
		}
		from := msg.GetFrom()
		e, ok := m.dir.get(from)
		// Without the sender's key there is nobody to answer: do not even decrypt.
		if from == m.cfg.ID || !ok || e.key == nil {
			continue
		}
		now := clock()
		own, ok := senders.Get(from)
		if !ok {
			own = rate.NewLimiter(rate.Every(peerAnswersEvery), peerAnswersBurst)
			senders.Add(from, own)
		}
		if !own.AllowN(now, 1) || !e.near() && !distant.AllowN(now, 1) || !all.AllowN(now, 1) {
			continue
		}
		id, sealed, err := parsePrivate(msg.GetData(), from)
		if err != nil {
			continue
		}
		plain, err := m.cfg.Key.decrypt(sealed)
		if err != nil || isAck(plain) {
			continue
		}
		m.answer(e, from, id, []byte(ack))
		if seen.Contains(string(from) + id) {
			continue // sent again, since our acknowledgement was lost
		}
		seen.Add(string(from)+id, struct{}{})
		if call, ok := parseAbout(plain); ok {
			value, err := aboutAnswer(call, from, m.about())
			if err != nil {
				m.cfg.Log.Error("could not encode what the relay says about itself", "error", err)
				continue
			}
			if m.answer(e, from, "", value) {
				m.mu.Lock()
				m.stats.Answered++
				m.mu.Unlock()
			}
		}
	}
}

func (m *Member) answer(e entry, to peer.ID, id string, plain []byte) bool {
	data, err := newPrivate(m.cfg.ID, to, e.key, id, plain, clock())
	if err != nil {
		m.cfg.Log.Error("could not encrypt a private message", "error", err)
		return false
	}
	select {
	case m.replies <- reply{to, data}:
		return true
	default:
		return false // a reply is never worth waiting for
	}
}

func (m *Member) about() any {
	if m.cfg.About != nil {
		return m.cfg.About()
	}
	ld := m.cfg.Announcement().JSONLD
	return map[string]string{"ipfsId": m.cfg.ID.String(), "name": ld.Name, "version": ld.Version, "protocol": ld.Protocol}
}
