package witness

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/listen"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// maxBody bounds what is read from anybody: 63 lines of proof and a checkpoint.
const maxBody = 4<<10 + evidence.MaxCheckpointBytes

// rates leave room: a log asks about once an hour, and a few times more when
// something is amiss.
var rates = listen.Rates{PerClient: 1, Burst: 20, All: 50, AllBurst: 200}

// sizeType is the media type of a size in the answer to a request with another one.
const sizeType = "text/x.tlog.size"

// Handler serves a witness: POST /add-checkpoint, and GET /<origin hash>/checkpoint,
// which gives what was cosigned last. logs are the verifier keys of the logs whose
// checkpoints are cosigned at present; a log that has got a new key may be there
// with both, the newer one last, and each has a history of its own.
func Handler(w *Witness, logs func() []string, log *slog.Logger) http.Handler {
	return listen.Paced(rates, HandlerAt(w, logs, log, time.Now))
}

// HandlerAt is [Handler] by another clock, for everybody at once: for simulations.
func HandlerAt(w *Witness, logs func() []string, log *slog.Logger, now func() time.Time) http.Handler {
	s := &server{witness: w, logs: logs, log: log, now: now}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", s.addCheckpoint)
	mux.HandleFunc("GET /{hash}/checkpoint", s.checkpoint)
	return mux
}

type server struct {
	witness *Witness
	logs    func() []string
	log     *slog.Logger
	now     func() time.Time
}

// keys are those of the logs whose origin is wanted.
func (s *server) keys(wanted func(origin string) bool) []string {
	return slices.DeleteFunc(s.logs(), func(key string) bool {
		origin, _, _ := strings.Cut(key, "+") // the name of a log's key is its origin
		return !wanted(origin)
	})
}

func (s *server) addCheckpoint(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, fmt.Sprintf("a request has at most %d bytes", maxBody), http.StatusRequestEntityTooLarge)
		return
	}
	req, err := ParseAddCheckpoint(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	origin, _, _ := bytes.Cut(req.Checkpoint, []byte("\n"))
	keys := s.keys(func(o string) bool { return o == string(origin) })
	if len(keys) == 0 {
		http.Error(w, "that log is not in the roster", http.StatusNotFound)
		return
	}
	var line []byte
	for _, key := range keys {
		if line, err = s.witness.Cosign(key, req, s.now()); !errors.Is(err, ErrNotTheLogs) {
			break
		}
	}
	var conflict *ConflictError
	switch {
	case err == nil:
		s.log.Debug("cosigned", "log", string(origin))
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(line)
	case errors.As(err, &conflict):
		w.Header().Set("Content-Type", sizeType)
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%d\n", conflict.Size)
	case errors.Is(err, ErrForked):
		s.log.Error("a monitor has signed two histories; its checkpoint is kept as proof: tell the committee", "log", string(origin), "err", err)
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	case errors.Is(err, ErrInconsistent):
		s.log.Warn("refused to cosign", "log", string(origin), "err", err)
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	case errors.Is(err, ErrNotTheLogs):
		http.Error(w, "no signature is by a key of that log", http.StatusForbidden)
	case errors.Is(err, ErrOldSize):
		http.Error(w, err.Error(), http.StatusBadRequest)
	default: // of this machine; the details are nobody else's business
		s.log.Error("cannot cosign", "log", string(origin), "err", err)
		http.Error(w, "this witness cannot cosign at present", http.StatusInternalServerError)
	}
}

func (s *server) checkpoint(w http.ResponseWriter, r *http.Request) {
	var last []byte
	for _, key := range s.keys(func(o string) bool { return originHash(o) == r.PathValue("hash") }) {
		raw, err := s.witness.Last(key)
		if err != nil {
			s.log.Error("cannot show a checkpoint", "err", err)
			http.Error(w, "this witness cannot read what it cosigned", http.StatusInternalServerError)
			return
		}
		if raw != nil {
			last = raw
		}
	}
	if last == nil {
		http.Error(w, "nothing was cosigned of that log", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(last)
}

// originHash names a log in a path.
func originHash(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(sum[:])
}
