package coord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
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

// maxInbox bounds a private message to the relay itself; a measurement has 700 bytes.
const maxInbox = 32 << 10

// MemberConfig is what a Member needs. Log may be nil.
type MemberConfig struct {
	PubSub *PubSub
	ID     peer.ID // of the host under it
	Key    *Key    // kept by the caller: peers remember its public half
	// OldTopic has the member be on OldTopic, too.
	OldTopic bool
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
	listeners []*Listener
	events    []*pubsub.TopicEventHandler
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
	Neighbours    int       // connected peers on a coordination topic
	Most          int       // neighbours there were at the same time since the start
	Speakers      int       // connected peers that speak gossipsub, on whatever topic
	Members       int       // neighbours and others that count as members
	PrivateTopics int       // relayed
	LastAnnounced time.Time // to neighbours; zero: not yet
	Unheard       time.Time // the last announcement, if there was no neighbour to hear it
	Silent        time.Time // since when no speaker is a neighbour; zero: one is, or there is no speaker
	Answered      uint64    // latency measurements answered
	Dropped       map[string]Dropped
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
		topics:    newTopics(cfg.PubSub.PubSub, cfg.Log),
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
	for i, events := range m.events {
		m.wg.Go(func() { m.watch(ctx, m.listeners[i].name, events) })
	}
	m.wg.Go(func() { m.keep(ctx) })
	m.wg.Go(func() { m.announce(ctx) })
	m.wg.Go(func() { m.read(ctx) })
	return m, nil
}

func (m *Member) join() (err error) {
	names := []string{Topic}
	if m.cfg.OldTopic {
		names = append(names, OldTopic)
	}
	for _, name := range names {
		l, err := listen(m.cfg.PubSub.PubSub, name, m.heard)
		if err != nil {
			return err
		}
		m.listeners = append(m.listeners, l)
		events, err := l.topic.EventHandler()
		if err != nil {
			return err
		}
		m.events = append(m.events, events)
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
	// What a relay is told in private is short: the queue is below 1 MiB with that.
	m.inbox, err = m.inboxOf.Subscribe(pubsub.WithBufferSize(16), pubsub.WithMessageFilter(func(msg *pubsub.Message) bool {
		return len(msg.GetData()) <= maxInbox
	}))
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
	for _, e := range m.events {
		e.Cancel()
	}
	for _, l := range m.listeners {
		errs = append(errs, l.Close())
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
	s.Speakers, s.Dropped = m.cfg.PubSub.streams.speakers(), m.cfg.PubSub.Dropped()
	return s
}

// heard is called for each announcement, one after the other on each topic.
func (m *Member) heard(h Heard) {
	if h.PeerID == m.cfg.ID {
		return
	}
	m.dir.announce(h)
	wake(m.changed)
}

// watch follows who comes to a coordination topic and who leaves.
func (m *Member) watch(ctx context.Context, topic string, events *pubsub.TopicEventHandler) {
	for {
		e, err := events.NextPeerEvent(ctx)
		if err != nil {
			return
		}
		switch e.Type {
		case pubsub.PeerJoin:
			m.dir.subscribe(e.Peer, topic, clock())
			wake(m.newcomers)
		case pubsub.PeerLeave:
			m.dir.leave(e.Peer, topic)
		}
		wake(m.changed)
	}
}

// keep has the right private topics relayed, and sends the replies, for which it
// holds the topics.
func (m *Member) keep(ctx context.Context) {
	tick, tell := time.NewTicker(time.Second), time.NewTicker(tellEvery)
	defer tick.Stop()
	defer tell.Stop()
	var settled <-chan time.Time
	told := m.cfg.PubSub.Dropped()
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
		case <-tell.C:
			told = m.tell(told)
			continue
		case <-settled:
			settled = nil
		case <-tick.C: // members expire, and the rate of joining may allow more
		}
		now := clock()
		m.dir.expire(now)
		members, distant := m.dir.members(now)
		m.topics.relay(members, distant, now)
		near, speakers := m.dir.neighbours(), m.cfg.PubSub.streams.speakers()
		m.mu.Lock()
		m.stats.PrivateTopics = len(m.topics.relayed)
		m.stats.Neighbours, m.stats.Most = near, max(near, m.stats.Most)
		switch {
		case near > 0 || speakers == 0:
			m.stats.Silent = time.Time{}
		case m.stats.Silent.IsZero():
			m.stats.Silent = now
		}
		m.mu.Unlock()
	}
}

// tellEvery is how often the log says what was not passed on.
const tellEvery = time.Minute

// tell says what was not passed on since told.
func (m *Member) tell(told map[string]Dropped) map[string]Dropped {
	now := m.cfg.PubSub.Dropped()
	var found []any
	for _, why := range slices.Sorted(maps.Keys(now)) {
		if n := now[why].Messages - told[why].Messages; n > 0 {
			found = append(found, slog.Group(why, "messages", n, "bytes", now[why].Bytes-told[why].Bytes))
		}
	}
	if len(found) > 0 {
		m.cfg.Log.Warn("some messages of PSF peers were not passed on in the last minute", found...)
	}
	return now
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
	repeat(ctx, m.newcomers, func() (heard bool) {
		heard = m.dir.neighbours() > 0
		if err := m.announceOnce(ctx, heard); err != nil && ctx.Err() == nil {
			m.cfg.Log.Error("could not announce the relay to the PSF network", "error", err)
		}
		return heard
	})
}

// announceOnce announces on every topic. A relay without neighbours does it, too:
// there may be peers that listen and of whom it does not know that.
func (m *Member) announceOnce(ctx context.Context, heard bool) error {
	a := m.cfg.Announcement()
	a.PeerID, a.BroadcastedAt, a.EncryptPubKey = m.cfg.ID, clock(), m.cfg.Key.Public()
	data, err := a.Encode()
	if err != nil {
		return err
	}
	for _, l := range m.listeners {
		if err := l.topic.Publish(ctx, data); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stats.Unheard = a.BroadcastedAt; heard {
		m.stats.LastAnnounced, m.stats.Unheard = a.BroadcastedAt, time.Time{}
	}
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
