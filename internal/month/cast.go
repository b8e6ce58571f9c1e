package month

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// All keys follow from this text, so that two runs tell the same story to the byte.
// Everybody knows them: they are good for a lab only.
const seed = "relay-appliance, make month, LAB"

// seedOf is the seed of a key, or of chance, by what it is for.
func seedOf(what ...any) [32]byte { return sha256.Sum256(fmt.Appendln([]byte(seed), what...)) }

// chance is always the same for the same words.
func chance(what ...any) *rand.Rand { return rand.New(rand.NewChaCha8(seedOf(what...))) }

// The key types of C2SP signed-note.
const (
	noteKey     = 0x01
	cosignature = 0x04
)

// noteSigner is a signer key as signed notes have it, and its verifier key.
func noteSigner(name string, kind byte) (signer, verifier string) {
	s := seedOf("note", name)
	public := ed25519.NewKeyFromSeed(s[:]).Public().(ed25519.PublicKey)
	material := append([]byte{kind}, public...)
	sum := sha256.Sum256(append([]byte(name+"\n"), material...))
	hash := binary.BigEndian.Uint32(sum[:])
	return fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, hash, base64.StdEncoding.EncodeToString(append([]byte{kind}, s[:]...))),
		fmt.Sprintf("%s+%08x+%s", name, hash, base64.StdEncoding.EncodeToString(material))
}

// observer is a monitor of the lab.
type observer struct {
	name, operator string
	committee      bool
	place          bounty.Place
}

func (o observer) origin() string      { return o.name + "/relaymon/" + string(evidence.Lab) }
func (o observer) logKey() string      { _, v := noteSigner(o.origin(), noteKey); return v }
func (o observer) witnessName() string { return o.origin() + "/witness" }
func (o observer) witnessKey() string  { _, v := noteSigner(o.witnessName(), cosignature); return v }

// planKey is that from which the times of its first attempts follow.
func (o observer) planKey() *bls.SecretKey {
	s := seedOf("plan", o.name)
	key, err := bls.KeyGen(s[:])
	if err != nil {
		panic(err) // the seed is fixed
	}
	return key
}

func (o observer) witnessHost() string { return o.name + ".month.test" }

// The monitors. What is wrong with two of them is in their stories.
var observers = []observer{
	{"committee", "the-committee", true, bounty.Place{Lat: 1.35, Lon: 103.82}},
	{"osaka", "north", false, bounty.Place{Lat: 34.69, Lon: 135.50}},
	{brokenLine, "south", false, bounty.Place{Lat: -1.29, Lon: 36.82}},
	{liar, "west", false, bounty.Place{Lat: -33.45, Lon: -70.67}},
}

const (
	brokenLine = "nairobi"
	liar       = "santiago"
)

// place is an address and where on earth it is. The addresses are of well-known name
// servers, because the reports ask two data sets in which country an address is, and
// those know no address that is for documentation. Nobody asks them anything.
type place struct {
	ipv4   string
	at     bounty.Place
	region string
}

var (
	singapore = place{"165.21.83.88", bounty.Place{Lat: 1.30, Lon: 103.80}, "SG"}
	saoPaulo  = place{"200.160.0.8", bounty.Place{Lat: -23.55, Lon: -46.63}, "BR"}
	tokyo     = place{"202.248.0.34", bounty.Place{Lat: 35.68, Lon: 139.69}, "JP"}
	sydney    = place{"61.8.0.113", bounty.Place{Lat: -33.87, Lon: 151.21}, "AU"}
	melbourne = place{"139.130.4.4", bounty.Place{Lat: -37.81, Lon: 144.96}, "AU"}
	joburg    = place{"196.216.2.1", bounty.Place{Lat: -26.20, Lon: 28.05}, "ZA"}
)

// relay is a relay of the lab. Its operator is called as its story.
type relay struct {
	name  string
	place place
}

const (
	steady = "steady"
	flaky  = "flaky"
	busy   = "busy"
	moved  = "moved"
	dead   = "dead"
)

var relays = []relay{{steady, singapore}, {flaky, saoPaulo}, {busy, tokyo}, {moved, sydney}, {dead, joburg}}

// key is the host key, with which the relay signs vouchers.
func (r relay) key() crypto.PrivKey {
	s := seedOf("relay", r.name)
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(s[:]))
	if err != nil {
		panic(err) // the seed is fixed
	}
	return key
}

func (r relay) id() string {
	id, err := peer.IDFromPrivateKey(r.key())
	if err != nil {
		panic(err)
	}
	return id.String()
}

func (r relay) domain() string { return r.name + ".month.test" }

// certificate is what the relay shows on its port for secure websockets.
func (r relay) certificate(number int64, from, until time.Time) []byte {
	s := seedOf("certificate", r.name, number)
	key := ed25519.NewKeyFromSeed(s[:])
	authority := pkix.Name{Organization: []string{"LAB"}, CommonName: "LAB authority of make month"}
	parent := &x509.Certificate{Subject: authority}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(number), Subject: pkix.Name{CommonName: r.domain()}, Issuer: authority,
		DNSNames: []string{r.domain()}, NotBefore: from, NotAfter: until,
	}
	der, err := x509.CreateCertificate(nil, leaf, parent, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return der
}

// roundTrip is the shortest time to a place and back by cable, in microseconds.
func roundTrip(a, b bounty.Place) int64 {
	const earth, degree, kmPerMs, detour = 6371, math.Pi / 180, 100, 1.35
	lat, lon := math.Sin((a.Lat-b.Lat)*degree/2), math.Sin((a.Lon-b.Lon)*degree/2)
	km := 2 * earth * math.Asin(math.Sqrt(lat*lat+math.Cos(a.Lat*degree)*math.Cos(b.Lat*degree)*lon*lon))
	return 900 + int64(km/kmPerMs*1000*detour)
}
