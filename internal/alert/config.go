package alert

import (
	"errors"
	"fmt"
	"log/slog"
)

// Config says who is told. It is a part of the configuration of relayd and of relaymon.
type Config struct {
	Webhooks      []URL `yaml:"webhooks"`
	Alertmanagers []URL `yaml:"alertmanagers"`
}

// URL is the address of a receiver. It often holds a password or a token.
type URL string

// Validate names every value that cannot be; the fields stand below "alerts".
func (c Config) Validate() error {
	var faults []error
	for name, list := range map[string][]URL{"webhooks": c.Webhooks, "alertmanagers": c.Alertmanagers} {
		for i, u := range list {
			if err := CheckURL(u); err != nil {
				faults = append(faults, fmt.Errorf("alerts.%s[%d]: %w", name, i, err))
			}
		}
	}
	return errors.Join(faults...)
}

// Open makes the keeper for the program, which remembers in file what was told; nil:
// nobody is to be told.
func (c Config) Open(file, program string, log *slog.Logger) (*Keeper, error) {
	var to []Receiver
	for _, u := range c.Webhooks {
		to = append(to, Webhook(u, program))
	}
	for _, u := range c.Alertmanagers {
		to = append(to, Alertmanager(u, program))
	}
	if len(to) == 0 {
		return nil, nil
	}
	return New(file, log, to...)
}
