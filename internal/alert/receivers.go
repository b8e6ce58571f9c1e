package alert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/download"
)

// poster sends JSON to an address, which may hold a secret.
type poster struct {
	kind, url, program string
	client             *http.Client
	at                 string // where it stands in the configuration
}

func newPoster(kind, address, program string) poster {
	// Where it leads is the operator's choice; where that leads on is not.
	client := &http.Client{Timeout: sendTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return poster{kind: kind, url: address, program: program, client: client}
}

// Name is the kind and the host; the path of a webhook is often a password.
func (p poster) Name() string {
	host := ""
	if u, err := url.Parse(p.url); err == nil {
		host = u.Host
	}
	return p.kind + " " + host
}

func (p poster) address() string { return p.kind + " " + p.url }

func (p poster) place() string { return p.at }

func (p poster) post(ctx context.Context, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("its address is none")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", buildinfo.Agent(p.program))
	res, err := p.client.Do(req)
	if err != nil {
		// The error of the library quotes the address.
		var fault *url.Error
		if errors.As(err, &fault) {
			err = fault.Err
		}
		return errors.New(download.Words(err, sendTimeout))
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("it answers %s", download.Status(res))
	}
	return nil
}

// labels are those of an alert as Prometheus has them.
func labels(a Alert) map[string]string {
	l := maps.Clone(a.Labels)
	if l == nil {
		l = map[string]string{}
	}
	l["alertname"] = a.Name
	return l
}

// alertmanager posts to the API v2 of Prometheus's Alertmanager, which forgets
// alerts that it is not reminded of.
type alertmanager struct{ poster }

// Alertmanager is the one whose address, without /api/v2, is given.
func Alertmanager(base URL, program string) Receiver { return newAlertmanager(base, program) }

func newAlertmanager(base URL, program string) alertmanager {
	return alertmanager{newPoster("alertmanager", strings.TrimSuffix(string(base), "/")+"/api/v2/alerts", program)}
}

func (alertmanager) Repeats() bool { return true }

// postable is an alert as the API v2 takes it.
type postable struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

func (r alertmanager) Send(ctx context.Context, alerts []Alert) error {
	list := make([]postable, len(alerts))
	for i, a := range alerts {
		list[i] = postable{labels(a), map[string]string{"summary": a.Summary}, a.Since, a.Ended}
		if a.Ended.IsZero() {
			// Should nobody remind it, something is wrong with the monitor, not with
			// what the alert is about; the next reminder comes long before.
			list[i].EndsAt = time.Now().UTC().Add(5 * repeatEvery)
		}
	}
	return r.post(ctx, list)
}

// webhook posts what Alertmanager's own webhooks post (version 4), so that what
// is there to take those takes these.
type webhook struct{ poster }

// Webhook posts to an address. The program is the one that alerts.
func Webhook(address URL, program string) Receiver { return newWebhook(address, program) }

func newWebhook(address URL, program string) webhook {
	return webhook{newPoster("webhook", string(address), program)}
}

func (webhook) Repeats() bool { return false }

type hookMessage struct {
	Version           string            `json:"version"`
	GroupKey          string            `json:"groupKey"`
	TruncatedAlerts   int               `json:"truncatedAlerts"`
	Status            string            `json:"status"`
	Receiver          string            `json:"receiver"`
	GroupLabels       map[string]string `json:"groupLabels"`
	CommonLabels      map[string]string `json:"commonLabels"`
	CommonAnnotations map[string]string `json:"commonAnnotations"`
	ExternalURL       string            `json:"externalURL"`
	Alerts            []hookAlert       `json:"alerts"`
}

type hookAlert struct {
	Status       string            `json:"status"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"` // the zero time while it goes on
	GeneratorURL string            `json:"generatorURL"`
	Fingerprint  string            `json:"fingerprint"`
}

func (r webhook) Send(ctx context.Context, alerts []Alert) error {
	m := hookMessage{
		Version: "4", GroupKey: r.program, Status: "resolved", Receiver: r.program,
		GroupLabels: map[string]string{}, CommonLabels: map[string]string{}, CommonAnnotations: map[string]string{},
	}
	for _, a := range alerts {
		sum := sha256.Sum256([]byte(a.id()))
		h := hookAlert{
			Status: "resolved", Labels: labels(a), Annotations: map[string]string{"summary": a.Summary},
			StartsAt: a.Since, EndsAt: a.Ended, Fingerprint: hex.EncodeToString(sum[:8]),
		}
		if a.Ended.IsZero() {
			h.Status, m.Status = "firing", "firing"
		}
		m.Alerts = append(m.Alerts, h)
	}
	// Labels that all of them have.
	maps.Copy(m.CommonLabels, m.Alerts[0].Labels)
	for _, h := range m.Alerts[1:] {
		maps.DeleteFunc(m.CommonLabels, func(k, v string) bool { return h.Labels[k] != v })
	}
	return r.post(ctx, m)
}
