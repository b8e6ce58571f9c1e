// Package beacontest is a server of a drand chain of its own, for tests.
package beacontest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/monitor/beacon"
)

// period is the time between two rounds.
const period = 3 * time.Second

// Server serves a chain whose secret key is known, so that it has a round for any hour,
// under the path /api.
type Server struct {
	*beacon.Chain
	// Asked is how often it was asked for a round.
	Asked atomic.Int64
	// Answer, if there is one, replaces the good answer.
	Answer func(number uint64, good string) (status int, body string)

	t       testing.TB
	genesis time.Time
	secret  *bls.SecretKey
}

// New makes a chain with a new key.
func New(t testing.TB, genesis time.Time) *Server {
	t.Helper()
	secret, err := bls.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, genesis: genesis, secret: secret}
	if s.Chain, err = beacon.NewChain(strings.Repeat("ab", 32), secret.Public().Bytes(), genesis, period); err != nil {
		t.Fatal(err)
	}
	return s
}

// Mirror serves the same chain, without what the first one answers instead.
func (s *Server) Mirror() *Server {
	return &Server{Chain: s.Chain, t: s.t, genesis: s.genesis, secret: s.secret}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.Asked.Add(1)
	number, err := strconv.ParseUint(filepath.Base(r.URL.Path), 10, 64)
	if err != nil || r.URL.Path != "/api/"+s.Path(number) {
		s.t.Errorf("asked for %s", r.URL.Path)
	}
	if time.Now().Before(s.genesis.Add(time.Duration(number-1) * period)) {
		http.NotFound(w, r)
		return
	}
	status, body := http.StatusOK, s.Round(number)
	if s.Answer != nil {
		status, body = s.Answer(number, body)
	}
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

// Round is one as drand's API gives it out.
func (s *Server) Round(number uint64) string {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, number))
	return fmt.Sprintf(`{"round":%d,"signature":"%x"}`, number, s.secret.Sign(sum[:]))
}
