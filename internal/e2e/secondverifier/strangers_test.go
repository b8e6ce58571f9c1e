package secondverifier

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"slices"
	"strings"
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

// Both read the same from certificates with names of every kind.
func TestCertificatesOfAllNames(t *testing.T) {
	p, f := startProgram(t), newForger(t, nil)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name := func(oid ...int) func(v any) pkix.AttributeTypeAndValue {
		return func(v any) pkix.AttributeTypeAndValue { return pkix.AttributeTypeAndValue{Type: oid, Value: v} }
	}
	mail, dc := name(1, 2, 840, 113549, 1, 9, 1), name(0, 9, 2342, 19200300, 100, 1, 25)
	many := make([]string, 120)
	for i := range many {
		many[i] = fmt.Sprintf("n%d.example.org", i)
	}
	day := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	for what, c := range map[string]x509.Certificate{
		"Let's Encrypt's":  {Subject: pkix.Name{Country: []string{"US"}, Organization: []string{"Let's Encrypt"}, CommonName: "R13"}, DNSNames: []string{"a.example.org", "*.example.org"}},
		"no name":          {},
		"all attributes":   {Subject: pkix.Name{Country: []string{"DE", "AT"}, Organization: []string{"O1", "O2"}, OrganizationalUnit: []string{"U1", "U2"}, Locality: []string{"L"}, Province: []string{"P"}, StreetAddress: []string{"S 1"}, PostalCode: []string{"1"}, SerialNumber: "77", CommonName: "C"}},
		"escapes":          {Subject: pkix.Name{CommonName: ` #a,b+c"d\e<f>g;h# `, Organization: []string{"#first", " ", "", "last "}}},
		"other attributes": {Subject: pkix.Name{CommonName: "C", ExtraNames: []pkix.AttributeTypeAndValue{mail("a@example.org"), dc("example"), name(2, 5, 4, 4)("Müller"), name(2, 5, 4, 46)("q*&"), name(2, 5, 4, 3)("second")}}},
		"many names":       {Subject: pkix.Name{CommonName: "C"}, DNSNames: many},
		"other letters":    {Subject: pkix.Name{CommonName: "日本\u00a0語\u2028\u200b\ufffd\U0001f600", Organization: []string{strings.Repeat("é", 200)}}},
		"long":             {Subject: pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{mail(strings.Repeat("a", 300) + "@é")}}},
		"after 2049":       {Subject: pkix.Name{CommonName: "C"}, NotBefore: time.Date(1949, 12, 31, 23, 59, 59, 0, time.UTC), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
		"before 2050":      {Subject: pkix.Name{CommonName: "C"}, NotBefore: time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)},
	} {
		t.Run(what, func(t *testing.T) {
			c.SerialNumber = big.NewInt(7)
			if c.NotBefore.IsZero() {
				c.NotBefore, c.NotAfter = day, day.AddDate(0, 3, 0)
			}
			der, err := x509.CreateCertificate(rand.Reader, &c, &c, &key.PublicKey, key)
			if err != nil {
				t.Fatal(err)
			}
			says, err := evidence.NewCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			told := lie{certificate: der, record: func(_ int, v any) any {
				v.(map[string]any)["attempts"].([]any)[0].(map[string]any)["facts"].(map[string]any)["certificate"] = f.parse(f.line(says))
				return v
			}}
			if !f.compare(p, fmt.Sprintf("issuer %q", says.Issuer), f.tell(told)) {
				t.Error("relayaudit refuses what it says itself of the certificate")
			}
			said := says.Issuer
			if says.Issuer += "x"; len(said) < 256 && f.compare(p, "another issuer", f.tell(told)) {
				t.Error("another issuer is accepted")
			}
		})
	}
	var sequence asn1.RawValue // a certificate that is none
	if _, err := asn1.Unmarshal([]byte{0x30, 3, 2, 1, 1}, &sequence); err != nil {
		t.Fatal(err)
	}
	if f.compare(p, "no certificate", f.tell(lie{certificate: sequence.FullBytes})) {
		t.Error("something that is no certificate is accepted")
	}
}
