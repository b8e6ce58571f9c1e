package monitor

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
)

// What a probe saw has the names of Prometheus's blackbox_exporter where that has
// one for it, so that dashboards and alerts made for it fit.

// attemptDescs describe the numbers of an attempt. Under /metrics they carry the
// relay as a label, under /probe the scrape's target does.
type attemptDescs struct {
	success, duration, certExpiry, httpStatus, ping, level, at *prometheus.Desc
	component, componentSeconds, rungSeconds                   *prometheus.Desc
}

func newAttemptDescs(labels ...string) *attemptDescs {
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc("probe_"+name, help, append(slices.Clone(labels), more...), nil)
	}
	return &attemptDescs{
		success:          desc("success", "Whether every component of the last attempt was ok."),
		duration:         desc("duration_seconds", "How long the last attempt took, up to the end of its last rung."),
		certExpiry:       desc("ssl_earliest_cert_expiry", "When the certificate that the relay showed expires, in unix time."),
		httpStatus:       desc("http_status_code", "HTTP status of the answer to the WebSocket upgrade."),
		ping:             desc("ping_duration_seconds", "The shortest libp2p ping over TCP."),
		level:            desc("relay_level", "How far relaying came: 1 reserved, 2 circuit, 3 handshake, 4 bytes echoed."),
		at:               desc("timestamp_seconds", "When the attempt began, in unix time."),
		component:        desc("component_success", "Whether a component was ok.", "component"),
		componentSeconds: desc("component_duration_seconds", "How long a component took.", "component"),
		rungSeconds:      desc("rung_duration_seconds", "How long a rung of the ladder took.", "rung"),
	}
}

func (d *attemptDescs) all() []*prometheus.Desc {
	return []*prometheus.Desc{d.success, d.duration, d.certExpiry, d.httpStatus, d.ping, d.level, d.at, d.component, d.componentSeconds, d.rungSeconds}
}

func (d *attemptDescs) collect(out chan<- prometheus.Metric, a *evidence.Attempt, labels ...string) {
	put := func(desc *prometheus.Desc, v float64, more ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, append(slices.Clone(labels), more...)...)
	}
	put(d.success, truth(schedule.Complete(*a)))
	var took int64
	seen := map[string]bool{}
	for _, r := range a.Rungs {
		if r.Outcome == evidence.Skipped || seen[r.Name] {
			continue
		}
		seen[r.Name] = true
		took = max(took, r.OffsetUS+r.DurationUS)
		put(d.rungSeconds, seconds(r.DurationUS), r.Name)
	}
	put(d.duration, seconds(took))
	for _, c := range evidence.Components {
		r := a.Results[c]
		put(d.component, truth(r.Outcome == evidence.OK), string(c))
		if r.Outcome != evidence.Skipped {
			put(d.componentSeconds, seconds(r.DurationUS), string(c))
		}
	}
	put(d.level, float64(a.Level))
	put(d.at, float64(a.Started.UnixMilli())/1000)
	f := a.Facts
	if f.Certificate != nil {
		put(d.certExpiry, float64(f.Certificate.NotAfter.Unix()))
	}
	if f.HTTPStatus != 0 {
		put(d.httpStatus, float64(f.HTTPStatus))
	}
	if len(f.PingUS) > 0 {
		put(d.ping, seconds(slices.Min(f.PingUS)))
	}
}

func seconds(us int64) float64 { return float64(us) / 1e6 }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var (
	relayLabels      = []string{"relay", "operator"}
	relayDescs       = newAttemptDescs(relayLabels...)
	probeDescs       = newAttemptDescs()
	descBuild        = prometheus.NewDesc("relaymon_build_info", "The version, as a label.", []string{"version"}, nil)
	descJudging      = prometheus.NewDesc("relaymon_judging", "Whether relays are judged: 0 while the evidence log cannot be written or is in doubt, or the clock is.", nil, nil)
	descSigning      = prometheus.NewDesc("relaymon_signing", "Whether the log is signed: 0 while it waits for its witnesses.", nil, nil)
	descFresh        = prometheus.NewDesc("relaymon_fresh", "Whether something new is at hand that relays can sign in this hour: 0 while neither the hour's drand round is nor a cosignature by another operator, so that no relay counts up.", nil, nil)
	descSealed       = prometheus.NewDesc("relaymon_sealed_hours", "Sealed hours under the log's last checkpoint.", nil, nil)
	descBehind       = prometheus.NewDesc("relaymon_witness_behind_hours", "Sealed hours that a witness has not cosigned.", []string{"witness"}, nil)
	descBucketBehind = prometheus.NewDesc("relaymon_bucket_behind_hours", "Sealed hours that the bucket does not show; absent until it was asked.", nil, nil)
	descBucketWhole  = prometheus.NewDesc("relaymon_bucket_whole_timestamp_seconds", "When the bucket last had the whole log, as Unix time; absent if it had not since the start, or the last push failed.", nil, nil)
	descBucketFailed = prometheus.NewDesc("relaymon_bucket_failed", "Whether the last push to the bucket failed.", nil, nil)
	descRefused      = prometheus.NewDesc("relaymon_connections_refused_total", "Connections refused, or closed to make room for others, by listener (pages, https, http) and reason (address, full, files).", []string{"listener", "reason"}, nil)
	descExpiry       = prometheus.NewDesc("relaymon_certificate_not_after_seconds", "When the certificate of the monitor's own name expires, as Unix time; 0: there is none.", nil, nil)
	descOverloaded   = prometheus.NewDesc("relaymon_overloaded", "Whether the monitor could not keep up with its roster in the last hour: attempts are made late, or not at all.", nil, nil)
	descPlaces       = prometheus.NewDesc("relaymon_places", "How many attempts may be under way at the same time.", nil, nil)
	descPlacesUsed   = prometheus.NewDesc("relaymon_places_used", "Attempts under way.", nil, nil)
	descQueue        = prometheus.NewDesc("relaymon_attempts_waiting", "Attempts that are due and wait for a place.", nil, nil)
	descLate         = prometheus.NewDesc("relaymon_attempts_late_total", "First attempts that began more than 5 minutes after they were due.", nil, nil)
	descMissed       = prometheus.NewDesc("relaymon_attempts_missed_total", "Attempts that were not made for want of a place.", nil, nil)
	descVote         = prometheus.NewDesc("relaymon_vote", "This monitor's vote of the last hour in which it has one: 1 up, 0.5 busy, 0 down; absent if the last day holds none.", relayLabels, nil)
	descMonthHours   = prometheus.NewDesc("relaymon_month_hours", "Hours of the running month, as this monitor alone counts them.", append(slices.Clone(relayLabels), "state"), nil)
	descNeeded       = prometheus.NewDesc("relaymon_month_needed_hours", "Hours that must still be up in the running month.", relayLabels, nil)
	descSlack        = prometheus.NewDesc("relaymon_month_slack_hours", "Hours of the running month that may be lost in all, lost ones included.", relayLabels, nil)
	descRunsOut      = prometheus.NewDesc("relaymon_month_runs_out_timestamp_seconds", "When the running month is lost at the pace of the last days, as Unix time; absent if it is not.", relayLabels, nil)
	descWarning      = prometheus.NewDesc("relaymon_warning", "Warnings of a relay that hold, by the name of the alert.", append(slices.Clone(relayLabels), "name", "severity"), nil)
	descSpare        = prometheus.NewDesc("relaymon_month_spare_hours", "Hours that may still be lost in the running month; below 0 it can no longer be won.", relayLabels, nil)
)

// numbers is what /metrics shows of a monitor.
type numbers struct{ m *Monitor }

// Describe implements prometheus.Collector.
func (numbers) Describe(out chan<- *prometheus.Desc) {
	for _, d := range append(relayDescs.all(), descBuild, descJudging, descSigning, descFresh, descSealed, descBehind, descBucketBehind, descBucketWhole, descBucketFailed, descRefused, descExpiry, descOverloaded, descPlaces, descPlacesUsed, descQueue, descLate, descMissed, descVote, descMonthHours, descNeeded, descSpare, descSlack, descRunsOut, descWarning) {
		out <- d
	}
}

var voteNumbers = map[string]float64{"up": 1, "busy": 0.5, "down": 0}

// Collect implements prometheus.Collector.
func (n numbers) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	o, err := n.m.overview(time.Now())
	if err != nil {
		out <- prometheus.NewInvalidMetric(descJudging, err)
		return
	}
	gauge(descBuild, 1, buildinfo.Version())
	gauge(descJudging, truth(o.Fault == ""))
	gauge(descSigning, truth(o.Held == ""))
	gauge(descFresh, truth(o.NotFresh == ""))
	gauge(descSealed, float64(o.Sealed))
	for _, w := range o.Witnesses {
		gauge(descBehind, float64(w.Behind), w.Name)
	}
	if b := o.Bucket; b != nil {
		if b.Known {
			gauge(descBucketBehind, float64(b.Behind))
		}
		if !b.At.IsZero() {
			gauge(descBucketWhole, float64(b.At.Unix()))
		}
		gauge(descBucketFailed, truth(b.Error != ""))
	}
	gauge(descOverloaded, truth(o.Overload != ""))
	n.m.mu.Lock()
	refusals, keeper := n.m.refusals, n.m.certs
	load := n.m.planner.Load()
	n.m.mu.Unlock()
	gauge(descPlaces, float64(load.Places))
	gauge(descPlacesUsed, float64(load.Busy))
	gauge(descQueue, float64(load.Waiting))
	for desc, total := range map[*prometheus.Desc]int{descLate: load.Lates, descMissed: load.Misses} {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(total))
	}
	for _, l := range refusals {
		for reason, count := range l.Counts() {
			out <- prometheus.MustNewConstMetric(descRefused, prometheus.CounterValue, float64(count), l.Name(), reason)
		}
	}
	if keeper != nil {
		var expiry int64
		if s := keeper.State(time.Now()); !s.NotAfter.IsZero() {
			expiry = s.NotAfter.Unix()
		}
		gauge(descExpiry, float64(expiry))
	}
	for _, r := range o.Relays {
		id := []string{r.PeerID, r.Operator}
		if r.Last != nil {
			relayDescs.collect(out, r.Last, id...)
		}
		for _, h := range slices.Backward(r.Hours) {
			if v, known := voteNumbers[h.Vote.String()]; known {
				gauge(descVote, v, id...)
				break
			}
		}
		c := r.Count
		for state, hours := range map[string]int{
			"up": c.Up, "down": c.Down, "busy": c.Busy, "unknown": c.Unknown, "not_enrolled": c.NotEnrolled, "remaining": c.Remaining,
		} {
			gauge(descMonthHours, float64(hours), append(slices.Clone(id), state)...)
		}
		gauge(descNeeded, float64(c.Needed), id...)
		gauge(descSpare, float64(c.Spare), id...)
		gauge(descSlack, float64(r.Forecast.Slack), id...)
		if !r.Forecast.RunsOut.IsZero() {
			gauge(descRunsOut, float64(r.Forecast.RunsOut.Unix()), id...)
		}
		for _, w := range r.Warnings {
			gauge(descWarning, 1, append(slices.Clone(id), w.Name, w.Severity)...)
		}
	}
}
