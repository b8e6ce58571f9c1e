package secondverifier

import (
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	mathrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Vouchers and certificates are what strangers make: keys, encodings and names of every kind.

// Both judge vouchers alike, by relays with keys of each type, whole and with bytes changed.
func TestVouchersOfAllKeys(t *testing.T) {
	p := startProgram(t)
	keys := map[string]func() (crypto.PrivKey, crypto.PubKey, error){
		"Ed25519":   func() (crypto.PrivKey, crypto.PubKey, error) { return crypto.GenerateEd25519Key(rand.Reader) },
		"Secp256k1": func() (crypto.PrivKey, crypto.PubKey, error) { return crypto.GenerateSecp256k1Key(rand.Reader) },
		"ECDSA":     func() (crypto.PrivKey, crypto.PubKey, error) { return crypto.GenerateECDSAKeyPair(rand.Reader) },
		"ECDSA P-521": func() (crypto.PrivKey, crypto.PubKey, error) {
			return crypto.GenerateECDSAKeyPairWithCurve(elliptic.P521(), rand.Reader)
		},
		"RSA 2048": func() (crypto.PrivKey, crypto.PubKey, error) { return crypto.GenerateRSAKeyPair(2048, rand.Reader) },
	}
	for name, generate := range keys {
		t.Run(name, func(t *testing.T) {
			key, _, err := generate()
			if err != nil {
				t.Fatal(err)
			}
			f := newForger(t, key)
			voucherOf := func(files map[string][]byte) evidence.VoucherState {
				f.compare(p, "voucher", files)
				m, err := evidence.MonthFromFiles(files)
				if err != nil {
					t.Fatal(err)
				}
				v, err := evidence.VerifyMonth(m, f.keys)
				if err != nil {
					t.Fatal(err)
				}
				return v.Hours[0].Vouchers[0].State
			}
			if got := voucherOf(f.tell(lie{})); got != evidence.VoucherBound {
				t.Fatalf("the whole voucher is %s, want bound", got)
			}
			n := 20
			if testing.Short() {
				n = 6
			}
			states := map[evidence.VoucherState]int{}
			for i := range n {
				r := mathrand.New(mathrand.NewPCG(8, uint64(i)))
				states[voucherOf(f.tell(lie{record: func(hour int, v any) any {
					reservation := v.(map[string]any)["attempts"].([]any)[0].(map[string]any)["facts"].(map[string]any)["reservation"].(map[string]any)
					raw, err := base64.StdEncoding.DecodeString(reservation["voucher"].(string))
					if err != nil {
						t.Fatal(err)
					}
					switch r.IntN(6) {
					case 0:
						raw = raw[:r.IntN(len(raw))]
					case 1: // a field that nobody knows
						raw = append(raw, 0x7a, 1, byte(r.IntN(256)))
					case 2:
						raw = append(raw, 0x7b, 0x08, 1, 0x7c) // a group
					case 3:
						at := r.IntN(len(raw))
						raw = slices.Insert(raw, at, byte(r.IntN(256)))
					default:
						raw[r.IntN(len(raw))] ^= 1 << r.IntN(8)
					}
					reservation["voucher"] = base64.StdEncoding.EncodeToString(raw)
					return v
				}}))]++
			}
			if states[evidence.VoucherBad] == 0 {
				t.Errorf("no change made the voucher bad: %v", states)
			}
		})
	}
}

// What a record says of a certificate is the monitor's word: neither reads the certificate,
// which the relay chose.
func TestCertificatesAreNotRead(t *testing.T) {
	p, f := startProgram(t), newForger(t, nil)
	said := func(issuer string, der []byte) lie {
		return lie{certificate: der, record: func(_ int, v any) any {
			v.(map[string]any)["attempts"].([]any)[0].(map[string]any)["facts"].(map[string]any)["certificate"] = f.parse(f.line(evidence.Certificate{
				SHA256: evidence.SHA256Hex(der), Issuer: issuer, DNSNames: []string{"*"},
				NotAfter: evidence.TimeOf(time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC)),
			}))
			return v
		}}
	}
	leaf := f.months[0].Certificates[0]
	for what, l := range map[string]lie{
		"another issuer":         said("CN=somebody else", leaf),
		"a letter that few know": said("\U0002ebf0", leaf),
		"no certificate":         said("", []byte("hello")),
		"nothing":                said("", []byte{}),
		"as long as one may be":  said("", make([]byte, evidence.MaxCertificateBytes)),
		"cut by a byte":          said("CN=cut", leaf[:len(leaf)-1]),
	} {
		if !f.compare(p, what, f.tell(l)) {
			t.Errorf("%s is refused", what)
		}
	}
	if f.compare(p, "too long", f.tell(said("", make([]byte, evidence.MaxCertificateBytes+1)))) {
		t.Error("a certificate that is too long is taken")
	}
	if f.compare(p, "another's", f.tell(lie{certificate: []byte("hello")})) {
		t.Error("a certificate to which no record refers is taken")
	}
}
