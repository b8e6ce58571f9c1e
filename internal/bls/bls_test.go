package bls

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fp"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// testKey is a key that is the same in every run.
func testKey(t testing.TB, seed byte) *SecretKey {
	t.Helper()
	k, err := KeyGen(bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The master keys of EIP-2333's test cases are made by the draft's KeyGen.
func TestKeyGenOfEIP2333(t *testing.T) {
	for seed, want := range map[string]string{
		"c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04": "6083874454709270928345386274498605044986640685124978867557563392430687146096",
		"3141592653589793238462643383279502884197169399375105820974944592":                                                                 "29757020647961307431480504535336562678282505419141012933316116377660817309383",
		"0099FF991111002299DD7744EE3355BBDD8844115566CC55663355668888CC00":                                                                 "27580842291869792442942448775674722299803720648445448686099262467207037398656",
		"d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3":                                                                 "19022158461524446591288038168518313374041767046816487870552872741050760015818",
	} {
		k, err := KeyGen(unhex(t, seed))
		if err != nil {
			t.Fatal(err)
		}
		if got := k.scalar.String(); got != want {
			t.Errorf("from %s: got %s, want %s", seed, got, want)
		}
	}
	if _, err := KeyGen(make([]byte, 31)); err == nil {
		t.Error("31 bytes are enough for a key")
	}
}

// Pairs of keys from DFINITY's test vectors for BLS12-381 (dfinity/ic).
func TestPublishedPublicKeys(t *testing.T) {
	for secret, want := range map[string]string{
		"d9c35fad8d209c951f5facdb23ff9615862ae6c68f4b8b35f90f319c411d638b": "abf62cf8f448af4fa2071cc31fcdbe56172d90b2a466ef0a66f3f72c063f4d29192f5f19b5ee7118ad2de65da489efac0366758ddfd009fe07afb6d02c0d201b337d0276d68e04c6c56f531a428c27abb94baaf388d36ecce932843b8ecd9042",
		"5d35cff694966061a3dce24899dbeaa0dea6b7b5ad646cdf8123bda7ec0bc001": "b8c1bd6219c455692b8258236e27cd2a709faa36c974c855e482a25ea97d5d8e45d458ce78aab2e7901a58018e56f6d3196d1ba6432aad831a51cf088d2638909d7e02a62bd828cac5df755ee1a3917a29c986b0b98a1eb2b7205ffdf53a5dac",
	} {
		k := new(SecretKey)
		k.scalar.SetBytes(unhex(t, secret))
		k.scalar.Mod(&k.scalar, fr.Modulus())
		if got := hex.EncodeToString(k.Public().Bytes()); got != want {
			t.Errorf("of %s: got %s, want %s", secret, got, want)
		}
	}
}

// published are signatures of the suite that others made: the test vectors of DFINITY's
// verify-bls-signatures and agent-js, and rounds of drand's chain quicknet.
var published = []struct{ key, message, signature string }{
	{"a7623a93cdb56c4d23d99c14216afaab3dfd6d4f9eb3db23d038280b6d5cb2caaee2a19dd92c9df7001dede23bf036bc0f33982dfb41e8fa9b8e96b5dc3e83d55ca4dd146c7eb2e8b6859cb5a5db815db86810b8d12cee1588b5dbf34a4dc9a5",
		"68656c6c6f", "b89e13a212c830586eaa9ad53946cd968718ebecc27eda849d9232673dcd4f440e8b5df39bf14a88048c15e16cbcaabe"},
	{"9933e1f89e8a3c4d7fdcccdbd518089e2bd4d8180a261f18d9c247a52768ebce98dc7328a39814a8f911086a1dd50cbe015e2a53b7bf78b55288893daa15c346640e8831d72a12bdedd979d28470c34823b8d1c3f4795d9c3984a247132e94fe",
		"0d69632d73746174652d726f6f74b294b418b11ebe5dd7dd1dcb099e4e0372b9a42aef7a7a37fb4f25667d705ea9", "89a2be21b5fa8ac9fab1527e041327ce899d7da971436a1f2165393947b4d942365bfe5488710e61a619ba48388a21b1"},
	{quicknetKey, "f652498d092acd949bad74e40683bf3824fb817980504a0c7e6722cfc5a9c0a3", "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"},
	{quicknetKey, "9b8ae5ffae974924f92f7004a02b27ef6801e9f6b31acdf60bea3872e2143b05", "b0f5ae301358ff87a9d3dd539ed4a07c0148b1ab4f7b61a8ca43c7e9ca7ca9553e4faae9188deb30b2cd1a7f447e3e5b"},
}

const quicknetKey = "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"

func TestPublishedSignatures(t *testing.T) {
	for _, v := range published {
		k, err := NewPublicKey(unhex(t, v.key))
		if err != nil {
			t.Fatal(err)
		}
		message, signature := unhex(t, v.message), unhex(t, v.signature)
		if err := k.Verify(message, signature); err != nil {
			t.Errorf("message %s: %v", v.message, err)
		}
		if err := k.Verify(append(message, 0), signature); err == nil {
			t.Errorf("message %s: another message has its signature", v.message)
		}
	}
}

func TestSignAndVerify(t *testing.T) {
	k, other := testKey(t, 1), testKey(t, 2)
	for n := range 20 {
		message := []byte(strings.Repeat("x", n*n))
		s := k.Sign(message)
		if again := k.Sign(message); !bytes.Equal(s, again) {
			t.Errorf("two signatures of one message: %x, %x", s, again)
		}
		if err := k.Public().Verify(message, s); err != nil {
			t.Error(err)
		}
		if err := other.Public().Verify(message, s); err == nil {
			t.Error("it is another key's, too")
		}
	}
}

// outside is a point of G1's curve that r times comes to itself: not of the group, and the
// pairing does not see it beside one that is.
func outside(t testing.TB) bls12381.G1Affine {
	t.Helper()
	var p bls12381.G1Affine
	for x := uint64(1); ; x++ {
		p.X.SetUint64(x)
		var square, four fp.Element
		square.Square(&p.X).Mul(&square, &p.X)
		square.Add(&square, four.SetUint64(4))
		if p.Y.Sqrt(&square) == nil {
			continue
		}
		p.ScalarMultiplication(&p, fr.Modulus())
		// The multiplication may take the number mod r: then add by hand.
		if p.IsInfinity() {
			t.Fatal("gnark-crypto multiplies mod r: make the point in another way")
		}
		if !p.IsInSubGroup() && p.IsOnCurve() {
			return p
		}
	}
}

// A second signature of a message does not exist: who has the key cannot choose one,
// and nobody can spell it in another way.
func TestOneSignatureOnly(t *testing.T) {
	k := testKey(t, 1)
	public := k.Public()
	var message []byte
	var good []byte
	room := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 381), fp.Modulus())
	for n := 0; ; n++ { // until the point's x can also be written as x + p
		message = []byte(fmt.Sprint("message ", n))
		good = k.Sign(message)
		bare := bytes.Clone(good)
		bare[0] &= 0x1f
		if new(big.Int).SetBytes(bare).Cmp(room) < 0 {
			break
		}
	}
	var point bls12381.G1Affine
	if _, err := point.SetBytes(good); err != nil {
		t.Fatal(err)
	}
	bare := bytes.Clone(good)
	bare[0] &= 0x1f
	larger := new(big.Int).Add(new(big.Int).SetBytes(bare), fp.Modulus()).FillBytes(make([]byte, 48))
	larger[0] |= good[0] & 0xe0

	strange := outside(t)
	strange.Add(&strange, &point)
	strangeBytes := strange.Bytes()
	hash, err := bls12381.HashToG1(message, []byte(Suite))
	if err != nil {
		t.Fatal(err)
	}
	if !public.holds(strange, hash) {
		t.Fatal("the pairing tells the two points apart: this test shows nothing")
	}
	var double bls12381.G1Affine
	double.Double(&point)
	twice := double.Bytes()
	raw := point.RawBytes()
	flipped := bytes.Clone(good)
	flipped[0] ^= 0x20
	infinity := append([]byte{0xc0}, make([]byte, 47)...)
	otherInfinity := append([]byte{0xe0}, make([]byte, 47)...)
	for name, forged := range map[string][]byte{
		"nothing": nil, "zeros": make([]byte, 48), "infinity": infinity, "infinity with a sign": otherInfinity,
		"the other y": flipped, "twice the point": twice[:], "x + p": larger,
		"not compressed": raw[:], "not compressed, cut": raw[:48], "a byte more": append(bytes.Clone(good), 0), "a byte less": good[:47],
		"a point outside of the group added": strangeBytes[:],
	} {
		if err := public.Verify(message, forged); err == nil {
			t.Errorf("%s: it is a second signature", name)
		}
		if bad := public.VerifyBatch([]Signed{{message, good}, {message, forged}}); !slices.Equal(bad, []int{1}) {
			t.Errorf("%s: in a batch %v are bad, want [1]", name, bad)
		}
	}
	for i := range good {
		for bit := range 8 {
			forged := bytes.Clone(good)
			forged[i] ^= 1 << bit
			if err := public.Verify(message, forged); err == nil {
				t.Errorf("bit %d of byte %d: it is a second signature", bit, i)
			}
		}
	}
}

func TestVerifyBatch(t *testing.T) {
	k, other := testKey(t, 1), testKey(t, 2)
	var list []Signed
	for n := range 20 {
		message := []byte(fmt.Sprint(n))
		list = append(list, Signed{message, k.Sign(message)})
	}
	infinity := append([]byte{0xc0}, make([]byte, 47)...)
	random := rand.New(rand.NewPCG(1, 2))
	for name, c := range map[string]struct {
		change func(l []Signed)
		want   []int
	}{
		"all good":      {func([]Signed) {}, nil},
		"another's key": {func(l []Signed) { l[3].Signature = other.Sign(l[3].Message) }, []int{3}},
		"two swapped":   {func(l []Signed) { l[0].Signature, l[19].Signature = l[19].Signature, l[0].Signature }, []int{0, 19}},
		"another text":  {func(l []Signed) { l[7].Message = []byte("x") }, []int{7}},
		"not points":    {func(l []Signed) { l[1].Signature, l[5].Signature = infinity, nil }, []int{1, 5}},
		"both kinds":    {func(l []Signed) { l[1].Signature, l[0].Signature = nil, l[2].Signature }, []int{0, 1}},
		"all bad": {func(l []Signed) {
			for i := range l {
				l[i].Message = nil
			}
		}, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}},
		// Two that are bad, and whose sum is good.
		"make up for each other": {func(l []Signed) {
			var a, b, d bls12381.G1Affine
			_, err1 := a.SetBytes(l[4].Signature)
			_, err2 := b.SetBytes(l[9].Signature)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			_, _, d, _ = bls12381.Generators()
			d.ScalarMultiplication(&d, new(big.Int).SetUint64(random.Uint64()))
			a.Add(&a, &d)
			b.Sub(&b, &d)
			first, second := a.Bytes(), b.Bytes()
			l[4].Signature, l[9].Signature = first[:], second[:]
		}, []int{4, 9}},
	} {
		changed := slices.Clone(list)
		c.change(changed)
		if got := k.Public().VerifyBatch(changed); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
		for i, s := range changed {
			if got, want := k.Public().Verify(s.Message, s.Signature) != nil, slices.Contains(c.want, i); got != want {
				t.Errorf("%s: number %d alone: bad is %v, want %v", name, i, got, want)
			}
		}
	}
	if got := k.Public().VerifyBatch(nil); got != nil {
		t.Errorf("of nothing %v are bad", got)
	}
}

func TestSecretKeyText(t *testing.T) {
	k, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseSecretKey(k.Text())
	if err != nil || again.scalar.Cmp(&k.scalar) != 0 {
		t.Fatalf("got %v, %v", again, err)
	}
	if other, err := GenerateKey(); err != nil || other.Text() == k.Text() {
		t.Error("two new keys are one", err)
	}
	if s := fmt.Sprint(k); strings.Contains(s, k.Text()) || strings.Contains(s, k.scalar.String()) {
		t.Errorf("it prints itself: %s", s)
	}
	text := func(n *big.Int) string {
		return secretPrefix + base64.StdEncoding.EncodeToString(n.FillBytes(make([]byte, 32)))
	}
	plus := new(big.Int).Add(fr.Modulus(), big.NewInt(1))
	for name, bad := range map[string]string{
		"nothing": "", "zero": text(new(big.Int)), "r": text(fr.Modulus()), "r + 1": text(plus),
		"no prefix": strings.TrimPrefix(k.Text(), secretPrefix), "a newline": k.Text() + "\n", "a newline within": k.Text()[:30] + "\n" + k.Text()[30:],
		"short": k.Text()[:40], "public": k.Public().String(),
	} {
		_, err := ParseSecretKey(bad)
		if err == nil {
			t.Errorf("%s: it is a key", name)
		} else if len(bad) > 20 && strings.Contains(err.Error(), bad[len(secretPrefix):]) {
			t.Errorf("%s: the error tells what was read", name)
		}
	}
}

func TestPublicKeyRefuses(t *testing.T) {
	good := testKey(t, 1).Public()
	for _, read := range []func() (*PublicKey, error){
		func() (*PublicKey, error) { return ParsePublicKey(good.String()) },
		func() (*PublicKey, error) { return NewPublicKey(good.Bytes()) },
	} {
		if k, err := read(); err != nil || !k.point.Equal(&good.point) {
			t.Fatalf("got %v, %v", k, err)
		}
	}
	infinity := append([]byte{0xc0}, make([]byte, 95)...)
	flipped := good.Bytes()
	flipped[0] ^= 0x80
	raw := good.point.RawBytes()
	for name, bad := range map[string][]byte{"nothing": nil, "zeros": make([]byte, 96), "infinity": infinity, "not marked as compressed": flipped, "not compressed": raw[:], "a byte more": append(good.Bytes(), 0)} {
		if _, err := NewPublicKey(bad); err == nil {
			t.Errorf("%s: it is a key", name)
		}
	}
	for name, bad := range map[string]string{"nothing": "", "hex": hex.EncodeToString(good.Bytes()), "a newline within": good.String()[:64] + "\n" + good.String()[64:127], "url": strings.Repeat("_", 128)} {
		if _, err := ParsePublicKey(bad); err == nil {
			t.Errorf("%s: it is a key", name)
		}
	}
	// Points of the curve outside of the group.
	found := 0
	for x := range 64 {
		b := make([]byte, 96)
		b[0], b[95] = 0x80, byte(x)
		_, err := NewPublicKey(b)
		if err == nil {
			t.Errorf("x = %d: it is a key", x)
		} else if strings.Contains(err.Error(), "subgroup") {
			found++
		}
	}
	if found == 0 {
		t.Error("no point outside of the group was tried")
	}
}

func FuzzPublicKey(f *testing.F) {
	f.Add(testKey(f, 1).Public().Bytes())
	f.Add(unhex(f, quicknetKey))
	f.Add(append([]byte{0xc0}, make([]byte, 95)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := NewPublicKey(b)
		if err != nil {
			return
		}
		if !bytes.Equal(k.Bytes(), b) || k.point.IsInfinity() || !k.point.IsInSubGroup() {
			t.Errorf("%x is read as %x", b, k.Bytes())
		}
		if again, err := ParsePublicKey(k.String()); err != nil || !again.point.Equal(&k.point) {
			t.Errorf("its text is read as %v, %v", again, err)
		}
	})
}

func FuzzSignature(f *testing.F) {
	k := testKey(f, 1)
	message := []byte("message")
	good := k.Sign(message)
	f.Add(good)
	f.Add(append([]byte{0xc0}, make([]byte, 47)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := k.Public().Verify(message, b); (err == nil) != bytes.Equal(b, good) {
			t.Errorf("%x: %v", b, err)
		}
	})
}

func FuzzSecretKey(f *testing.F) {
	f.Add(testKey(f, 1).Text())
	f.Add(secretPrefix)
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := ParseSecretKey(text); err == nil && k.Text() != text {
			t.Errorf("%q is read as %q", text, k.Text())
		}
	})
}

// batch is as many signatures as a log has plans in a month.
func batch(b *testing.B) (*PublicKey, []Signed) {
	k := testKey(b, 1)
	var list []Signed
	for n := range 744 {
		message := []byte(fmt.Sprint("relaymon-plan/v1 ", n))
		list = append(list, Signed{message, k.Sign(message)})
	}
	return k.Public(), list
}

func BenchmarkOneByOne744(b *testing.B) {
	k, list := batch(b)
	for b.Loop() {
		for _, s := range list {
			if err := k.Verify(s.Message, s.Signature); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkBatch744(b *testing.B) {
	k, list := batch(b)
	for b.Loop() {
		if bad := k.VerifyBatch(list); bad != nil {
			b.Fatal(bad)
		}
	}
}

func BenchmarkBatch744OneBad(b *testing.B) {
	k, list := batch(b)
	list[400].Message = nil
	for b.Loop() {
		if bad := k.VerifyBatch(list); len(bad) != 1 {
			b.Fatal(bad)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	k := testKey(b, 1)
	for b.Loop() {
		k.Sign([]byte("message"))
	}
}
