"""The official Python SDK, `centrifuge-python`, against the native protocol."""

import json

from centrifuge import StreamPosition
from support import Gateway, Inbox, Line, TestCase, subscribe


class Json:
    """Payloads are values."""

    use_protobuf = False

    @staticmethod
    def payload(value):
        return value

    value = payload


class Protobuf:
    """Payloads are bytes."""

    use_protobuf = True

    @staticmethod
    def payload(value):
        return json.dumps(value).encode()

    value = staticmethod(json.loads)


class Sdk:
    """What holds in every encoding; a subclass says which."""

    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway.serve(cls)

    async def connect(self, user, **options):
        return await self.gateway.connect(self, user, use_protobuf=self.use_protobuf, **options)

    def publish(self, channel, *numbers):
        for data in numbers:
            self.gateway.api("publish", channel=channel, data=data)

    async def take(self, events, count):
        """The next publications as `(offset, data)`."""
        taken = []
        while len(taken) < count:
            pub = (await events.publication.next(f"publication {len(taken) + 1} of {count}")).pub
            taken.append((pub.offset, self.value(pub.data)))
        return taken

    async def test_connects_with_a_token_and_is_told_its_client_id(self):
        _, ann = await self.connect("ann")
        _, bob = await self.connect("bob")
        first, second = await ann.connected.next("connected"), await bob.connected.next("connected")
        self.assertRegex(first.client, "^[0-9a-f-]{36}$")
        self.assertNotEqual(first.client, second.client)

    async def test_an_invalid_token_ends_in_3500_and_no_reconnect(self):
        _, ann = await self.connect("ann", token=self.gateway.token("ann")[:-4] + "AAAA")
        end = await ann.disconnected.next("disconnected")
        self.assertEqual((end.code, end.reason), (3500, "invalid token"))

    async def test_what_one_client_publishes_reaches_another_and_says_who_it_is_from(self):
        ann, ann_events = await self.connect("ann")
        bob, _ = await self.connect("bob")
        _, chat = await subscribe(bob, "open:chat")
        data = {"text": "grüß dich\n☕", "list": [1, None, True]}
        await ann.publish("open:chat", self.payload(data))
        pub = (await chat.publication.next("the publication")).pub
        self.assertEqual(self.value(pub.data), data)
        connected = await ann_events.connected.next("connected")
        self.assertEqual((pub.info.user, pub.info.client), ("ann", connected.client))

    async def test_a_subscriber_reads_the_history(self):
        self.publish("kept:read", 1, 2, 3)
        ann, _ = await self.connect("ann")
        subscription, events = await subscribe(ann, "kept:read")
        epoch = events.first.stream_position.epoch

        async def read(**request):
            history = await subscription.history(**request)
            self.assertEqual((history.offset, history.epoch), (3, epoch))
            return [(pub.offset, self.value(pub.data)) for pub in history.publications]

        self.assertEqual(await read(), [])
        self.assertEqual(await read(limit=-1), [(1, 1), (2, 2), (3, 3)])
        self.assertEqual(await read(limit=2, reverse=True), [(3, 3), (2, 2)])
        self.assertEqual(await read(limit=10, since=StreamPosition(1, epoch)), [(2, 2), (3, 3)])

    async def test_when_its_line_was_cut_it_gets_exactly_what_it_missed_in_order(self):
        self.publish("kept:missed", 1)
        line = await Line.to(self, self.gateway.port)
        ann, _ = await self.connect("ann", port=line.port)
        _, events = await subscribe(ann, "kept:missed")
        self.assertEqual((events.first.recoverable, events.first.stream_position.offset), (True, 1))
        self.publish("kept:missed", 2)
        self.assertEqual(await self.take(events, 1), [(2, 2)])
        for third, fourth, fifth in ((3, 4, 5), (6, 7, 8)):
            line.cut()
            await events.subscribing.next("the loss of the line")
            self.publish("kept:missed", third, fourth)
            line.mend()
            again = await events.subscribed.next("subscribed again")
            self.assertEqual((again.was_recovering, again.recovered), (True, True))
            self.publish("kept:missed", fifth)
            self.assertEqual(await self.take(events, 3), [(third, third), (fourth, fourth), (fifth, fifth)])
        self.assertTrue(events.publication.is_empty)

    async def test_it_renews_its_token_before_that_expires(self):
        # The third token proves that the gateway took the second and said how long it lasts.
        lifetimes, asked = iter((2, 2, 600)), Inbox()

        async def get_token():
            seconds = next(lifetimes)
            await asked.put(seconds)
            return self.gateway.token("ann", seconds)

        ann, events = await self.connect("ann", token="", get_token=get_token)
        _, chat = await subscribe(ann, "open:renewed")
        for which in ("first", "second", "third"):
            await asked.next(f"the {which} token")
        await ann.publish("open:renewed", self.payload("still here"))
        self.assertEqual(self.value((await chat.publication.next("the publication")).pub.data), "still here")
        for inbox in (events.connecting, events.disconnected, events.error):
            self.assertTrue(inbox.is_empty)


class SdkWithJson(Json, Sdk, TestCase):
    """As a JSON client."""


class SdkWithProtobuf(Protobuf, Sdk, TestCase):
    """As a Protobuf client."""
