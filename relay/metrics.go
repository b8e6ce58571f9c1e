package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/listen"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
)

// newRegistry holds the program's metrics and, later, libp2p's.
func (r *Relay) newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), (*numbers)(r),
		alert.Metrics("relayd", r.alerts.state))
	return reg
}

// numbers are the relay's own metrics, read off its state when they are asked for.
type numbers Relay

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("relayd_"+name, help, labels, nil)
}

var (
	descBuild        = desc("build_info", "1, with the version.", "version")
	descReservations = desc("reservations", "Reservations held, by class.", "class")
	descReserveMax   = desc("reservations_max", "Reservations that there may be, by class.", "class")
	descCircuits     = desc("circuits", "Open circuits, by class.", "class")
	descRefused      = desc("refused_total", "Requests and connections refused, by the status that the peer was told (none: its connection was closed) and the reason.", "status", "reason")
	descEnded        = desc("ended_total", "Connections, reservations and circuits that the relay ended by itself, by reason.", "reason")
	descTurnedAway   = desc("connections_refused_total", "Connections refused, or closed to make room for others, by listener (http, metrics; upstream: requests) and reason (address, full, files). Those of peers are in relayd_refused_total.", "listener", "reason")
	descMonth        = desc("month_bytes", "Bytes carried in this calendar month (UTC).")
	descBudget       = desc("month_budget_bytes", "The month's transfer budget; 0: none.")
	descExpiry       = desc("certificate_not_after_seconds", "When the certificate expires, as Unix time; 0: there is none.")
	descReady        = desc("ready", "1 once the relay is up.")
	descStarted      = desc("started_seconds", "When the relay was started, as Unix time.")
	descSince        = desc("version_since_seconds", "Since when this version runs here, as Unix time; 0: not noted.")
	descConnections  = desc("connections", "Open connections.")
	descConnsMax     = desc("connections_max", "Connections that fit this machine.")
	descNeighbours   = desc("psf_neighbours", "Connected peers on the PSF coordination topic.")
	descMembers      = desc("psf_members", "Peers known as members of the PSF network.")
	descAnnounced    = desc("psf_announced_seconds", "When the relay announced itself last, as Unix time; 0: not yet.")
	descSpeakers     = desc("psf_speakers", "Connected peers that speak gossipsub, on whatever topic.")
	descSilent       = desc("psf_silent", "1 if such peers are connected and for minutes none of them was a neighbour.")
	descDropped      = desc("psf_dropped_total", "Messages of the PSF network that were not passed on, by reason.", "reason")
	descDroppedBytes = desc("psf_dropped_bytes_total", "Their bytes.", "reason")
	descMeasured     = desc("psf_measured_seconds", "When a PSF peer last measured the relay, as Unix time; 0: not yet.")
	descRequirement  = desc("requirement", "1 for the outcome of each of the bounty's requirements: met, not met, unknown.", "requirement", "outcome")
	descTakenBack    = desc("update_taken_back_seconds", "When an update of the machine was taken back, as Unix time, by package and version.", "package", "version")
	allDescs         = []*prometheus.Desc{
		descBuild, descReservations, descReserveMax, descCircuits, descRefused, descEnded, descTurnedAway, descMonth, descBudget, descExpiry, descReady, descStarted,
		descSince, descConnections, descConnsMax, descNeighbours, descMembers, descSpeakers, descSilent, descDropped, descDroppedBytes, descAnnounced, descMeasured, descRequirement, descTakenBack,
	}
)

// Describe implements prometheus.Collector.
func (n *numbers) Describe(out chan<- *prometheus.Desc) {
	for _, d := range allDescs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (n *numbers) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	r := (*Relay)(n)
	s := r.Status()
	gauge(descBuild, 1, buildinfo.Version())
	gauge(descReservations, float64(s.Reservations.Members), "member")
	gauge(descReservations, float64(s.Reservations.Guests), "guest")
	gauge(descReserveMax, float64(s.Reservations.Max-s.Reservations.GuestMax), "member")
	gauge(descReserveMax, float64(s.Reservations.GuestMax), "guest")
	gauge(descCircuits, float64(s.Circuits.Members), "member")
	gauge(descCircuits, float64(s.Circuits.Guests), "guest")
	gauge(descMonth, float64(s.Traffic.Bytes))
	gauge(descBudget, float64(s.Traffic.Budget))
	var expiry, ready float64
	if s.Certificate != nil && s.Certificate.Loaded() {
		expiry = float64(s.Certificate.NotAfter.Unix())
	}
	if s.Ready {
		ready = 1
	}
	gauge(descExpiry, expiry)
	gauge(descReady, ready)
	gauge(descStarted, unixSeconds(s.Started))
	gauge(descSince, unixSeconds(s.VersionSince))
	gauge(descConnections, float64(s.Connections))
	gauge(descConnsMax, float64(s.Capacity.Connections))
	if s.PSF != nil {
		gauge(descNeighbours, float64(s.PSF.Neighbours))
		gauge(descMembers, float64(s.PSF.Members))
		gauge(descSpeakers, float64(s.PSF.Speakers))
		var silent float64
		if !s.PSF.Silent.IsZero() {
			silent = 1
		}
		gauge(descSilent, silent)
		for reason, d := range s.PSF.Dropped {
			out <- prometheus.MustNewConstMetric(descDropped, prometheus.CounterValue, float64(d.Messages), reason)
			out <- prometheus.MustNewConstMetric(descDroppedBytes, prometheus.CounterValue, float64(d.Bytes), reason)
		}
		gauge(descAnnounced, unixSeconds(s.PSF.LastAnnounced))
		gauge(descMeasured, unixSeconds(s.PSF.LastMeasured))
	}
	for _, q := range s.Requirements {
		gauge(descRequirement, 1, q.Name, string(q.Outcome))
	}
	if s.Maintenance != nil {
		since := map[[2]string]time.Time{} // twice the same would be no metrics at all
		for _, h := range s.Maintenance.Held {
			since[[2]string{h.Package, h.Version}] = h.Since
		}
		for what, at := range since {
			gauge(descTakenBack, unixSeconds(at), what[0], what[1])
		}
	}
	r.mu.Lock()
	refusals := r.refusals
	r.mu.Unlock()
	for _, l := range refusals {
		for reason, count := range l.Counts() {
			out <- prometheus.MustNewConstMetric(descTurnedAway, prometheus.CounterValue, float64(count), l.Name(), reason)
		}
	}
	for by, count := range r.tally.Refusals() {
		out <- prometheus.MustNewConstMetric(descRefused, prometheus.CounterValue, float64(count), by.Status, by.Word)
	}
	ended := r.tally.Endings()
	for _, reason := range refusal.EndReasons {
		out <- prometheus.MustNewConstMetric(descEnded, prometheus.CounterValue, float64(ended[reason]), reason)
	}
}

// unixSeconds is 0 for the zero time.
func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

// serveMetrics serves /metrics on l until ctx ends, and the status for programs,
// by which `relayd doctor` asks a relay that has no domain.
func (r *Relay) serveMetrics(ctx context.Context, l net.Listener, reg *prometheus.Registry) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	web := r.web(r.Status)
	mux.Handle("GET /status.json", web)
	mux.Handle("GET /healthz", web)
	s := listen.Server(mux, r.log)
	s.IdleTimeout = 2 * time.Minute // Prometheus keeps its connection between two scrapes
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		r.log.Error("metrics are no longer served", "error", err)
	}
}

// listenTCP opens one of the relay's own listeners.
func (r *Relay) listenTCP(name, what, hostPort string, b listen.Bounds) (net.Listener, error) {
	b.LoopbackCounts = r.config().Test.LoopbackCounts
	l, err := listen.TCP(name, hostPort, b, r.log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, config.ExplainListen("tcp", hostPort, err))
	}
	r.counted(l.Refusals)
	return l, nil
}

// counted shows what a listener refuses among the metrics.
func (r *Relay) counted(refusals *listen.Refusals) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusals = append(r.refusals, refusals)
}
