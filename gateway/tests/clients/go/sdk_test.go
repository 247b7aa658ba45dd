// Package clients tests the gateway with the official Go SDK.
package clients

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

// encodings are the rows of every test.
var encodings = []string{"json", "protobuf"}

var newClient = map[string]func(string, centrifuge.Config) *centrifuge.Client{
	"json":     centrifuge.NewJsonClient,
	"protobuf": centrifuge.NewProtobufClient,
}

// bench is what one test in one encoding works with.
type bench struct {
	*testing.T
	*gateway
	encoding string
}

func inEveryEncoding(t *testing.T, test func(bench)) {
	t.Parallel()
	for _, encoding := range encodings {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			test(bench{t, serve(t), encoding})
		})
	}
}

// client is one of the SDK with its events.
type client struct {
	*centrifuge.Client
	connecting   inbox[centrifuge.ConnectingEvent]
	connected    inbox[centrifuge.ConnectedEvent]
	disconnected inbox[centrifuge.DisconnectedEvent]
	errors       inbox[centrifuge.ErrorEvent]
}

// connect begins to connect to address. The client ends with the test.
func (b bench) connect(address string, config centrifuge.Config) client {
	b.Helper()
	config.MinReconnectDelay, config.MaxReconnectDelay = 20*time.Millisecond, 100*time.Millisecond
	config.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	c := client{
		newClient[b.encoding]("ws://"+address+"/connection/websocket", config),
		newInbox[centrifuge.ConnectingEvent](), newInbox[centrifuge.ConnectedEvent](),
		newInbox[centrifuge.DisconnectedEvent](), newInbox[centrifuge.ErrorEvent](),
	}
	b.Cleanup(c.Close)
	c.OnConnecting(c.connecting.push)
	c.OnConnected(c.connected.push)
	c.OnDisconnected(c.disconnected.push)
	c.OnError(c.errors.push)
	check(b.T, c.Connect())
	c.connecting.next(b.T, "connecting")
	return c
}

// connectAs begins to connect to the gateway itself.
func (b bench) connectAs(user string) client {
	b.Helper()
	return b.connect(b.address, centrifuge.Config{Token: b.token(user, time.Hour)})
}

// subscription is one of the SDK that has begun, with its events.
type subscription struct {
	*centrifuge.Subscription
	subscribing  inbox[centrifuge.SubscribingEvent]
	subscribed   inbox[centrifuge.SubscribedEvent]
	publications inbox[centrifuge.PublicationEvent]
}

func (b bench) subscribe(c client, channel string) (subscription, centrifuge.SubscribedEvent) {
	b.Helper()
	made, err := c.NewSubscription(channel)
	check(b.T, err)
	s := subscription{
		made,
		newInbox[centrifuge.SubscribingEvent](), newInbox[centrifuge.SubscribedEvent](), newInbox[centrifuge.PublicationEvent](),
	}
	s.OnSubscribing(s.subscribing.push)
	s.OnSubscribed(s.subscribed.push)
	s.OnPublication(s.publications.push)
	check(b.T, s.Subscribe())
	s.subscribing.next(b.T, "subscribing")
	return s, s.subscribed.next(b.T, "subscribed to "+channel)
}

// position is where a subscription begins that is told so.
func (b bench) position(began centrifuge.SubscribedEvent) centrifuge.StreamPosition {
	b.Helper()
	if began.StreamPosition == nil {
		b.Fatalf("no position: %+v", began)
	}
	return *began.StreamPosition
}

// kept is a publication as a history has it.
type kept struct {
	offset uint64
	data   string
}

func keptOf(publication centrifuge.Publication) kept {
	return kept{publication.Offset, string(publication.Data)}
}

// take receives the publications that are expected, and those alone so far.
func (b bench) take(s subscription, expected ...kept) {
	b.Helper()
	for _, one := range expected {
		equal(b.T, "the publication", keptOf(s.publications.next(b.T, "a publication").Publication), one)
	}
	equal(b.T, "publications left", len(s.publications), 0)
}

func TestConnectsWithATokenAndIsToldItsClientID(t *testing.T) {
	inEveryEncoding(t, func(b bench) {
		ann := b.connectAs("ann").connected.next(b.T, "connected")
		bob := b.connectAs("bob").connected.next(b.T, "connected")
		equal(b.T, "the length of a client id", len(ann.ClientID), 36)
		if ann.ClientID == bob.ClientID {
			b.Fatal("two clients have the same id")
		}
	})
}

func TestAnInvalidTokenEndsIn3500AndNoReconnect(t *testing.T) {
	inEveryEncoding(t, func(b bench) {
		token := b.token("ann", time.Hour)
		ann := b.connect(b.address, centrifuge.Config{Token: token[:len(token)-4] + "AAAA"})
		end := ann.disconnected.next(b.T, "disconnected")
		equal(b.T, "the end", end, centrifuge.DisconnectedEvent{Code: 3500, Reason: "invalid token"})
	})
}

func TestWhatOneClientPublishesReachesAnotherAndSaysWhoItIsFrom(t *testing.T) {
	inEveryEncoding(t, func(b bench) {
		ann := b.connectAs("ann")
		chat, _ := b.subscribe(b.connectAs("bob"), "open:chat")
		data := `{"text":"grüß dich\n☕","list":[1,null,true]}`
		_, err := ann.Publish(context.Background(), "open:chat", []byte(data))
		check(b.T, err)
		publication := chat.publications.next(b.T, "the publication")
		equal(b.T, "the data", string(publication.Data), data)
		if publication.Info == nil {
			b.Fatal("the publication does not say who it is from")
		}
		equal(b.T, "the user", publication.Info.User, "ann")
		equal(b.T, "the client", publication.Info.Client, ann.connected.next(b.T, "connected").ClientID)
	})
}

func TestASubscriberReadsTheHistory(t *testing.T) {
	inEveryEncoding(t, func(b bench) {
		b.publish(b.T, "kept:read", "1", "2", "3")
		s, first := b.subscribe(b.connectAs("ann"), "kept:read")
		top := b.position(first)
		read := func(expected []kept, options ...centrifuge.HistoryOption) {
			b.Helper()
			history, err := s.History(context.Background(), options...)
			check(b.T, err)
			equal(b.T, "the position", centrifuge.StreamPosition{Offset: history.Offset, Epoch: history.Epoch}, top)
			var read []kept
			for _, publication := range history.Publications {
				read = append(read, keptOf(publication))
			}
			if !slices.Equal(read, expected) {
				b.Fatalf("the history: %v instead of %v", read, expected)
			}
		}
		equal(b.T, "the offset", top.Offset, 3)
		read(nil)
		read([]kept{{1, "1"}, {2, "2"}, {3, "3"}}, centrifuge.WithHistoryLimit(-1))
		read([]kept{{3, "3"}, {2, "2"}}, centrifuge.WithHistoryLimit(2), centrifuge.WithHistoryReverse(true))
		since := centrifuge.WithHistorySince(&centrifuge.StreamPosition{Offset: 1, Epoch: top.Epoch})
		read([]kept{{2, "2"}, {3, "3"}}, centrifuge.WithHistoryLimit(10), since)
	})
}

func TestWhenItsLineWasCutItGetsExactlyWhatItMissedInOrder(t *testing.T) {
	inEveryEncoding(t, func(b bench) {
		b.publish(b.T, "kept:missed", "1")
		l := layLine(b.T, b.address)
		ann := b.connect(l.near, centrifuge.Config{Token: b.token("ann", time.Hour)})
		s, first := b.subscribe(ann, "kept:missed")
		equal(b.T, "recoverable", first.Recoverable, true)
		equal(b.T, "the offset", b.position(first).Offset, 1)
		b.publish(b.T, "kept:missed", "2")
		b.take(s, kept{2, "2"})
		for _, round := range [][]kept{{{3, "3"}, {4, "4"}, {5, "5"}}, {{6, "6"}, {7, "7"}, {8, "8"}}} {
			l.cut()
			s.subscribing.next(b.T, "the loss of the line")
			b.publish(b.T, "kept:missed", round[0].data, round[1].data)
			l.mend()
			again := s.subscribed.next(b.T, "subscribed again")
			equal(b.T, "was recovering", again.WasRecovering, true)
			equal(b.T, "recovered", again.Recovered, true)
			b.publish(b.T, "kept:missed", round[2].data)
			b.take(s, round...)
		}
	})
}

func TestItRenewsItsTokenBeforeThatExpires(t *testing.T) {
	inEveryEncoding(t, func(b bench) {
		// The third token proves that the gateway took the second and said how long it lasts.
		lifetimes := []time.Duration{2 * time.Second, 2 * time.Second, time.Hour}
		asked, count := newInbox[int](), atomic.Int32{}
		ann := b.connect(b.address, centrifuge.Config{GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) {
			which := int(count.Add(1))
			asked.push(which)
			return b.token("ann", lifetimes[min(which, len(lifetimes))-1]), nil
		}})
		chat, _ := b.subscribe(ann, "open:renewed")
		for _, which := range []string{"first", "second", "third"} {
			asked.next(b.T, "the "+which+" token")
		}
		_, err := ann.Publish(context.Background(), "open:renewed", []byte(`"still here"`))
		check(b.T, err)
		equal(b.T, "the data", string(chat.publications.next(b.T, "the publication").Data), `"still here"`)
		equal(b.T, "attempts, ends and errors", len(ann.connecting)+len(ann.disconnected)+len(ann.errors), 0)
	})
}
