package coord

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// The cipher of private messages is that of bch-encrypt-lib 2.1.1 over
// eccrypto-js 5.3.0: ECIES with SHA-512 of the shared X coordinate, AES-256-CBC
// and HMAC-SHA256 over iv, ephemeral key and ciphertext, written as
//
//	ephemeral public key (65) | iv (16) | ciphertext | mac (32)
const (
	uncompressed = secp256k1.PubKeyBytesLenUncompressed
	compressed   = secp256k1.PubKeyBytesLenCompressed
)

var errDecrypt = errors.New("not encrypted to this key")

func encrypt(to *secp256k1.PublicKey, plain []byte) ([]byte, error) {
	ephemeral, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	var iv [aes.BlockSize]byte
	if _, err := rand.Read(iv[:]); err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return seal(to, ephemeral, iv[:], plain)
}

func seal(to *secp256k1.PublicKey, ephemeral *secp256k1.PrivateKey, iv, plain []byte) ([]byte, error) {
	block, mac, err := ciphers(ephemeral, to)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize // PKCS #7
	public := ephemeral.PubKey().SerializeUncompressed()
	out := make([]byte, 0, len(public)+len(iv)+len(plain)+pad+sha256.Size)
	out = append(append(append(out, public...), iv...), plain...)
	for range pad {
		out = append(out, byte(pad))
	}
	text := out[len(public)+len(iv):]
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(text, text)
	return append(out, mac(iv, public, text)...), nil
}

// decrypt opens what encrypt or upstream sealed to k. It does not write to data.
func (k *Key) decrypt(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, errDecrypt
	}
	size := uncompressed
	if data[0] == secp256k1.PubKeyFormatCompressedEven || data[0] == secp256k1.PubKeyFormatCompressedOdd {
		size = compressed
	}
	if len(data) < size+2*aes.BlockSize+sha256.Size {
		return nil, errDecrypt
	}
	public, iv := data[:size], data[size:size+aes.BlockSize]
	text, sum := data[size+aes.BlockSize:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if len(text)%aes.BlockSize != 0 {
		return nil, errDecrypt
	}
	ephemeral, err := secp256k1.ParsePubKey(public)
	if err != nil {
		return nil, errDecrypt
	}
	block, mac, err := ciphers(k.private, ephemeral)
	if err != nil {
		return nil, errDecrypt
	}
	if !hmac.Equal(mac(iv, public, text), sum) {
		return nil, errDecrypt
	}
	plain := make([]byte, len(text))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, text)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize {
		return nil, errDecrypt
	}
	for _, b := range plain[len(plain)-pad:] {
		if int(b) != pad {
			return nil, errDecrypt
		}
	}
	return plain[:len(plain)-pad], nil
}

// ciphers derives the block cipher and the mac over several parts.
func ciphers(private *secp256k1.PrivateKey, public *secp256k1.PublicKey) (cipher.Block, func(...[]byte) []byte, error) {
	shared := sha512.Sum512(secp256k1.GenerateSharedSecret(private, public))
	block, err := aes.NewCipher(shared[:32])
	if err != nil {
		return nil, nil, err
	}
	return block, func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, shared[32:])
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}, nil
}
