// Command witnesses is what others make of C2SP tlog-witness, for the tests of our
// log and our witness:
//
//	register DB KEY             has torchwood's litewitness cosign a log
//	witness ADDR FILE KEY       runs the witness of transparency-dev with the signer keys on stdin
//	log DIR URL VKEY ENTRY...   grows a Tessera log, with the signer key on stdin, and has a witness cosign it
//	ask URL OLD [HASH]...       sends the checkpoint on stdin to a witness by transparency-dev's client
//
// It is a module of its own so that nothing of it gets into the go.mod of those who
// only install a program. None of it shares code with monitor/.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	client "github.com/transparency-dev/witness/client/http"
	"github.com/transparency-dev/witness/persistence/sqlite"
	"github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"
	lite "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "witnesses:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "register":
		return register(args[1], args[2])
	case len(args) == 4 && args[0] == "witness":
		return serve(ctx, args[1], args[2], args[3])
	case len(args) >= 5 && args[0] == "log":
		return grow(ctx, args[1], args[2], args[3], args[4:])
	case len(args) >= 3 && args[0] == "ask":
		return ask(ctx, args[1], args[2], args[3:])
	}
	return errors.New("want register, witness, log or ask: see the source")
}

// register does what witnessctl's add-log and add-key do to a database that
// litewitness has made. (witnessctl itself needs a module that not every proxy has.)
func register(file, key string) error {
	v, err := note.NewVerifier(key)
	if err != nil {
		return err
	}
	db, err := lite.OpenConn(file, lite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer db.Close()
	const empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" // SHA-256 of nothing
	if err := sqlitex.Execute(db, "INSERT INTO log (origin, tree_size, tree_hash) VALUES (?, 0, ?)", &sqlitex.ExecOptions{Args: []any{v.Name(), empty}}); err != nil {
		return err
	}
	return sqlitex.Execute(db, "INSERT INTO key (origin, key) VALUES (?, ?)", &sqlitex.ExecOptions{Args: []any{v.Name(), key}})
}

// serve runs a witness of one log until it is told to stop.
func serve(ctx context.Context, addr, file, key string) error {
	log, err := note.NewVerifier(key)
	if err != nil {
		return err
	}
	var signers []note.Signer
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		s, err := formats.NewSignerForCosignatureV1(in.Text())
		if err != nil {
			return err
		}
		signers = append(signers, s)
	}
	store, closeStore, err := sqlite.New(ctx, sqlite.Opts{Path: file})
	if err != nil {
		return err
	}
	defer closeStore()
	w, err := witness.New(ctx, witness.Opts{
		Persistence: store,
		Signers:     signers,
		VerifierForLog: func(_ context.Context, origin string) (note.Verifier, bool, error) {
			return log, origin == log.Name(), nil
		},
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", witness.NewHTTPHandler(w).AddCheckpoint)
	srv := &http.Server{Addr: addr, Handler: mux, ReadTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// grow adds entries to a log and prints the checkpoint that covers them, which
// Tessera publishes only with the witness's cosignature.
func grow(ctx context.Context, dir, witnessURL, witnessKey string, entries []string) error {
	signerKey, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(signerKey)))
	if err != nil {
		return err
	}
	u, err := url.Parse(witnessURL)
	if err != nil {
		return err
	}
	w, err := tessera.NewWitness(witnessKey, u)
	if err != nil {
		return err
	}
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	if err != nil {
		return err
	}
	const step = 100 * time.Millisecond
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(step).
		WithBatching(uint(len(entries)), step).
		WithWitnesses(tessera.NewWitnessGroup(1, w), nil))
	if err != nil {
		return err
	}
	published := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, step)
	var futures []tessera.IndexFuture
	for _, e := range entries {
		futures = append(futures, appender.Add(ctx, tessera.NewEntry([]byte(e))))
	}
	var checkpoint []byte
	for _, f := range futures {
		if _, checkpoint, err = published.Await(ctx, f); err != nil {
			return err
		}
	}
	if _, err := os.Stdout.Write(checkpoint); err != nil {
		return err
	}
	return shutdown(ctx)
}

// ask prints the witness's answer: its signature lines, or what was wrong.
func ask(ctx context.Context, witnessURL, old string, hashes []string) error {
	u, err := url.Parse(witnessURL)
	if err != nil {
		return err
	}
	size, err := strconv.ParseUint(old, 10, 64)
	if err != nil {
		return err
	}
	var proof [][]byte
	for _, h := range hashes {
		b, err := base64.StdEncoding.DecodeString(h)
		if err != nil {
			return err
		}
		proof = append(proof, b)
	}
	checkpoint, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	lines, has, err := client.NewWitness(u, http.DefaultClient).Update(ctx, size, checkpoint, proof)
	if known := []error{witness.ErrCheckpointStale, witness.ErrUnknownLog, witness.ErrNoValidSignature, witness.ErrOldSizeInvalid, witness.ErrInvalidProof}; slices.Contains(known, err) {
		_, err = fmt.Printf("refused: %v, %d\n", err, has)
		return err
	}
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(lines)
	return err
}
