package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bench/load"
	"github.com/psf-relay/relay-appliance/internal/bench/subject"
)

// experiment is a number of variants that are measured in turn, round by round,
// so that what the machine does meanwhile meets all of them.
type experiment struct {
	name     string
	about    string
	rounds   int
	variants []variant
}

// variant is one subject under one load.
type variant struct {
	subject  string
	over     string // transport and security; empty for a proxy
	job      load.Job
	settings string // of relayd, in place of the wide ones
	fresh    bool   // a new process for each round, because the load leaves traces
	beside   int    // share: how many circuits a hog fills in the second half
	sameDest bool   // share: they lead where the other one leads
	mbit     int    // share: how fast the link to it is; 0: as fast as the machine
}

func (v variant) name() string {
	name := v.subject
	if v.over != "" {
		name += " " + v.over
	}
	switch {
	case v.mbit > 0:
		name += fmt.Sprintf(" %d Mbit/s", v.mbit)
	case v.sameDest:
		name += " same destination"
	}
	return name
}

// Scale is how much is measured.
type Scale struct {
	Rounds int           // of experiments that compare rates
	Counts int           // of experiments that count peers
	For    time.Duration // how long a rate is measured
	Amount int64         // what the js relay has to carry
	Peers  []int         // counts of peers over tcp at which memory and RESERVE are measured
	WSS    []int         // the same over wss
	Others []int         // the same over quic, and of the library's relay
	JS     int           // peers of the js relay, which is slow
	Crowd  int           // clients behind one address
	Trim   int           // peers with a reservation, of a relay that keeps fewer connections; 0: not tried, it takes 40 s
	Wait   time.Duration // for somebody to be sent away
	Attack time.Duration // how long clients come during the attack
}

// The scales: two minutes, half an hour, and a few seconds in which each line of
// this program runs once, for its own test.
var (
	Short = Scale{
		Rounds: 1, Counts: 1, For: time.Second, Amount: 64 << 20,
		Peers: []int{reserved0, 1000, 4000, 5000}, WSS: []int{1000}, Others: []int{1000}, JS: 200,
		Crowd: 1000, Attack: 3 * time.Second,
	}
	Full = Scale{
		Rounds: 5, Counts: 5, For: 2 * time.Second, Amount: 256 << 20,
		Peers: []int{reserved0, 1000, 4000, 5000}, WSS: []int{1000, 5000}, Others: []int{1000}, JS: 500,
		Crowd: 1000, Trim: 330, Wait: time.Minute, Attack: 10 * time.Second,
	}
	Smoke = Scale{
		Rounds: 1, Counts: 1, For: 100 * time.Millisecond, Amount: 1 << 20,
		Peers: []int{40, 60}, WSS: []int{20}, Others: []int{20}, JS: 10,
		Crowd: 40, Trim: 10, Wait: 500 * time.Millisecond, Attack: time.Second,
	}
)

// reserved0 is how many reservations stand where "none" do: those of the peers
// that ask.
const reserved0 = 160

// The relay's limits in experiments about them.
const (
	small  = "limits: {connections: 1843}" // what relayd works out on a machine of 512 MiB
	oneNAT = "limits: {reservations: 4096, guest_reservations: 4096, reservations_per_ip: 2048, connections_per_ip: 2048, connects_per_second: 100}"
	few    = "limits: {reservations: 350, guest_reservations: 350, connections: 400, connections_per_ip: 400, connects_per_second: 1000}"
)

func experiments(s Scale) []experiment {
	relay := func(kind string, v variant, overs ...string) (out []variant) {
		for _, over := range overs {
			v := v
			v.over, v.job.Kind, v.job.Over = over, kind, over
			out = append(out, v)
		}
		return out
	}
	of := func(name string) variant { return variant{subject: name, job: load.Job{For: s.For}} }
	filled := func(name string, steps []int) variant {
		return variant{subject: name, fresh: true, job: load.Job{Steps: steps}}
	}
	every := []string{"tcp/noise", "tcp/tls", "wss/noise", "quic"}

	// It takes in hundreds of MiB before it lets any go, so that what a window of
	// time shows is chance: it has to carry an amount to the end.
	whole := of(subject.JS)
	whole.fresh, whole.job.Amount = true, s.Amount

	bulk := experiment{name: "bulk", about: "one stream through one circuit", rounds: s.Rounds}
	for _, name := range []string{subject.HAProxy, subject.HAProxyChaCha, subject.GoProxy, subject.GoProxyChaCha} {
		v := of(name)
		v.job.Kind = "proxy"
		bulk.variants = append(bulk.variants, v)
	}
	bulk.variants = slices.Concat(bulk.variants,
		relay("bulk", of(subject.Relayd), every...),
		relay("bulk", of(subject.Library), every...),
		relay("bulk", whole, "tcp/noise"))

	together := func(name string) variant {
		v := of(name)
		v.job.Peers = pairs
		return v
	}
	many := experiment{name: "many", about: fmt.Sprintf("%d pairs with a full circuit each", pairs), rounds: s.Rounds, variants: slices.Concat(
		relay("many", together(subject.Relayd), every...),
		relay("many", together(subject.Library), "tcp/noise"))}

	peers := experiment{name: "peers", about: "peers that hold a reservation", rounds: s.Counts, variants: slices.Concat(
		relay("fill", filled(subject.Relayd, s.Peers), "tcp/noise"),
		relay("fill", filled(subject.Relayd, s.WSS), "wss/noise"),
		relay("fill", filled(subject.Relayd, s.Others), "quic"),
		relay("fill", filled(subject.Library, s.Others), "tcp/noise"),
		relay("fill", filled(subject.JS, []int{s.JS}), "tcp/noise"))}

	churn := experiment{name: "churn", about: "peers connect, identify and leave", rounds: s.Rounds, variants: slices.Concat(
		relay("churn", of(subject.Relayd), every...),
		relay("churn", of(subject.Library), "tcp/noise"),
		relay("churn", of(subject.JS), "tcp/noise"))}

	share := experiment{name: "share", about: "one circuit beside 50 of one other peer", rounds: s.Rounds}
	for _, name := range []string{subject.Relayd, subject.Library} {
		for _, same := range []bool{false, true} {
			v := of(name)
			v.job.For *= 2
			v.beside, v.sameDest = hogCircuits, same
			share.variants = append(share.variants, relay("send", v, "tcp/noise")...)
		}
	}

	// Buffers on a slow link fill and empty in seconds.
	slow := experiment{name: "slow", about: "one circuit beside 50 of one other peer, over a slow link to one destination", rounds: s.Counts}
	for _, mbit := range []int{10, 100} {
		for _, over := range []string{"tcp/noise", "quic"} {
			for _, name := range []string{subject.Relayd, subject.Library} {
				v := of(name)
				v.job.For *= 5
				v.beside, v.sameDest, v.mbit = hogCircuits, true, mbit
				slow.variants = append(slow.variants, relay("send", v, over)...)
			}
		}
	}

	attacked := func(name string) variant {
		return variant{subject: name, fresh: true, settings: small, job: load.Job{For: s.Attack}}
	}
	attack := experiment{name: "halfopen", about: "clients come while 8 addresses hold connections half open", rounds: s.Counts, variants: slices.Concat(
		relay("halfopen", attacked(subject.Relayd), "tcp/noise", "wss/noise"),
		relay("halfopen", attacked(subject.LibraryLimits), "tcp/noise"))}

	crowd := experiment{name: "crowd", about: fmt.Sprintf("%d clients behind one address", s.Crowd), rounds: s.Counts,
		variants: relay("crowd", variant{subject: subject.Relayd, fresh: true, settings: oneNAT, job: load.Job{Peers: s.Crowd}}, "tcp/noise")}

	trim := experiment{name: "trim", about: "more peers than the relay keeps connected", rounds: s.Counts,
		variants: relay("trim", variant{subject: subject.Relayd, fresh: true, settings: few, job: load.Job{Peers: s.Trim, Others: 60, For: s.Wait}}, "tcp/noise")}

	all := []experiment{bulk, many, peers, churn, share, slow, attack, crowd}
	if s.Trim > 0 {
		all = append(all, trim)
	}
	return all
}

const (
	hogCircuits = 50 // how many circuits the greedy peer fills
	pairs       = 16 // how many pairs of peers have one, where nobody is greedy
)

// Names are the experiments there are, for people.
func Names() []string {
	var out []string
	for _, e := range experiments(Full) {
		out = append(out, e.name)
	}
	return out
}

// choose keeps the experiments of these names; none are all. A name may go on
// with a part of a variant's: "bulk:quic".
func choose(all []experiment, names []string) ([]experiment, error) {
	if len(names) == 0 {
		return all, nil
	}
	var out []experiment
	for _, name := range names {
		name, part, _ := strings.Cut(name, ":")
		i := slices.IndexFunc(all, func(e experiment) bool { return e.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no experiment is called %q: there are %s", name, strings.Join(Names(), ", "))
		}
		e := all[i]
		e.variants = slices.DeleteFunc(slices.Clone(e.variants), func(v variant) bool { return !strings.Contains(v.name(), part) })
		if len(e.variants) == 0 {
			return nil, fmt.Errorf("experiment %s has no variant like %q", name, part)
		}
		out = append(out, e)
	}
	return out, nil
}
