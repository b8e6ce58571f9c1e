package alert

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/nicholas-fedor/shoutrrr/pkg/util/jsonclient"
)

// telegramClient is the client of the library's telegram, which takes every error for a
// success that is not a document of Telegram's own (as of version 0.13.2): no network, a
// proxy's page. So each error becomes such a document.
type telegramClient struct{ jsonclient.Client }

func init() {
	jsonclient.DefaultClient = telegramClient{jsonclient.NewWithHTTPClient(&http.Client{Timeout: sendTimeout})}
}

func (c telegramClient) Post(address string, request, response any) error {
	err := c.Client.Post(address, request, response)
	if err == nil {
		var said struct{ OK bool }
		b, fault := json.Marshal(response)
		if fault == nil && json.Unmarshal(b, &said) == nil && said.OK {
			return nil
		}
		err = errors.New("the answer is not one of Telegram's")
	}
	if body := jsonclient.ErrorBody(err); json.Valid([]byte(body)) && bytes.HasPrefix([]byte(body), []byte("{")) {
		return err
	}
	var fault *url.Error
	if errors.As(err, &fault) {
		err = fault.Err // the rest is the address, with the token
	}
	body, _ := json.Marshal(map[string]any{"ok": false, "description": err.Error()}) // of such a map it cannot fail
	return jsonclient.Error{Body: string(body)}
}
