package clients

// What every test needs: a gateway of its own, tokens for it, a line that can be cut, and waiting for facts.
// The tests know the gateway by its command line, its configuration file and its sockets only.

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// deadline is how long a fact may take before the test fails. Nothing waits this long when all is well.
const deadline = 15 * time.Second

// direct asks the loopback without a proxy of the environment.
var direct = &http.Client{Transport: &http.Transport{}, Timeout: deadline}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, what string, actual, expected T) {
	t.Helper()
	if actual != expected {
		t.Fatalf("%s: %+v instead of %+v", what, actual, expected)
	}
}

// inbox is a queue between callbacks and tests. It holds more than any test causes, so callbacks never wait.
type inbox[T any] chan T

func newInbox[T any]() inbox[T] { return make(inbox[T], 100) }

func (box inbox[T]) push(item T) { box <- item }

// next is the oldest item not yet taken; what names it in the failure.
func (box inbox[T]) next(t *testing.T, what string) T {
	t.Helper()
	var item T
	select {
	case item = <-box:
	case <-time.After(deadline):
		t.Fatalf("%s: not within %v", what, deadline)
	}
	return item
}

// line is a TCP line to an address that can be cut and mended. It ends with the test that laid it.
type line struct {
	near, far string
	mutex     sync.Mutex
	isCut     bool
	ends      []net.Conn
}

func layLine(t *testing.T, far string) *line {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	laid := &line{near: listener.Addr().String(), far: far}
	t.Cleanup(func() { listener.Close(); laid.cut() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return // The test has ended.
			}
			laid.forward(near)
		}
	}()
	return laid
}

// cut breaks off what is connected and whatever tries to, until mend.
func (l *line) cut() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.isCut = true
	for _, end := range l.ends {
		end.Close()
	}
	l.ends = nil
}

func (l *line) mend() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.isCut = false
}

func (l *line) forward(near net.Conn) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.isCut {
		near.Close()
		return
	}
	far, err := net.Dial("tcp", l.far)
	if err != nil {
		near.Close()
		return
	}
	l.ends = append(l.ends, near, far)
	pipe := func(from, to net.Conn) {
		io.Copy(to, from) // How it ends does not matter: the other end learns it by the close.
		from.Close()
		to.Close()
	}
	go pipe(near, far)
	go pipe(far, near)
}

// gateway is one `clarion serve`. It ends with the test that started it.
type gateway struct {
	address, internal string
	secret, apiKey    string
}

func serve(t *testing.T) *gateway {
	g := &gateway{address: freeAddress(t), internal: freeAddress(t), secret: rand.Text() + rand.Text(), apiKey: rand.Text()}
	config, err := json.Marshal(g.config(t)) // JSON is YAML.
	check(t, err)
	directory := t.TempDir()
	file := filepath.Join(directory, "clarion.yaml")
	check(t, os.WriteFile(file, config, 0o600))
	log, err := os.Create(filepath.Join(directory, "clarion.log"))
	check(t, err)
	defer log.Close()

	binary := os.Getenv("CLARION_BIN")
	if binary == "" {
		t.Fatal("CLARION_BIN is not set: give the path of the clarion binary")
	}
	command := exec.Command(binary, "serve", "--config", file)
	command.Stdout, command.Stderr = log, log
	check(t, command.Start())
	ended := make(chan struct{})
	go func() { command.Wait(); close(ended) }()
	t.Cleanup(func() { command.Process.Kill(); <-ended })
	for end := time.Now().Add(deadline); !g.isReady(); {
		select {
		case <-ended:
			end = time.Time{}
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("clarion is not ready:\n%s", said)
		}
	}
	return g
}

// config is made of permissive test settings.
func (g *gateway) config(t *testing.T) any {
	type object = map[string]any
	listen := func(address string) object {
		host, port, err := net.SplitHostPort(address)
		check(t, err)
		return object{"address": host, "port": json.Number(port)}
	}
	open := object{"name": "open", "allow_subscribe_for_client": true, "allow_publish_for_client": true}
	kept := object{
		"name": "kept", "allow_subscribe_for_client": true, "allow_history_for_subscriber": true,
		"history_size": 5, "history_ttl": "10m", "force_recovery": true,
	}
	return object{
		"public":   listen(g.address),
		"internal": listen(g.internal),
		"client":   object{"allowed_origins": []string{}, "token": object{"hmac_secret_key": g.secret}},
		"api":      object{"keys": []string{g.apiKey}},
		"channel":  object{"namespaces": []object{open, kept}},
	}
}

func (g *gateway) isReady() bool {
	response, err := direct.Get("http://" + g.internal + "/readyz")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// publish sends payloads, which are JSON, to a channel by the server API, one after the other.
func (g *gateway) publish(t *testing.T, channel string, payloads ...string) {
	t.Helper()
	for _, data := range payloads {
		body, err := json.Marshal(map[string]any{"channel": channel, "data": json.RawMessage(data)})
		check(t, err)
		request, err := http.NewRequest(http.MethodPost, "http://"+g.internal+"/api/publish", bytes.NewReader(body))
		check(t, err)
		request.Header.Set("X-API-Key", g.apiKey)
		response, err := direct.Do(request)
		check(t, err)
		said, err := io.ReadAll(response.Body)
		response.Body.Close()
		check(t, err)
		if response.StatusCode != http.StatusOK || bytes.Contains(said, []byte(`"error"`)) {
			t.Fatalf("publish: HTTP %d %s", response.StatusCode, said)
		}
	}
}

// token is a connection token for user that is good for lifetime.
func (g *gateway) token(user string, lifetime time.Duration) string {
	encode := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"sub":%q,"exp":%d}`, user, time.Now().Add(lifetime).Unix())
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, []byte(g.secret))
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

// freeAddress is one of the loopback that was free a moment ago.
func freeAddress(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer listener.Close()
	return listener.Addr().String()
}
