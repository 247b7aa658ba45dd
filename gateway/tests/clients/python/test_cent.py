"""The official Python library of the server API, `cent`."""

import unittest

import cent
from support import Gateway, TestCase, subscribe


class Requests(unittest.TestCase):
    """Calls that need no subscriber, with the synchronous client."""

    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway.serve(cls)
        cls.api = cls.enterClassContext(cent.Client(cls.gateway.api_url, cls.gateway.api_key))

    def publish(self, channel, *numbers):
        return [self.api.publish(cent.PublishRequest(channel=channel, data=data)) for data in numbers]

    def history(self, channel, **options):
        return self.api.history(cent.HistoryRequest(channel=channel, **options))

    def test_a_wrong_key_is_unauthorized(self):
        with cent.Client(self.gateway.api_url, "wrong") as stranger, self.assertRaises(cent.CentUnauthorizedError):
            stranger.info(cent.InfoRequest())

    def test_publish_tells_the_position_where_there_is_a_history(self):
        first, second = self.publish("kept:position", 1, {"two": 2})
        self.assertEqual((first.offset, second.offset), (1, 2))
        self.assertTrue(first.epoch)
        self.assertEqual(first.epoch, second.epoch)
        self.assertEqual(self.publish("open:position", 1), [cent.PublishResult(offset=0, epoch="")])

    def test_an_error_of_the_api_has_a_code_and_a_message(self):
        with self.assertRaises(cent.CentApiResponseError) as refused:
            self.publish("nowhere:room", 1)
        self.assertEqual((refused.exception.code, refused.exception.message), (102, "unknown channel"))

    def test_broadcast_answers_for_each_channel(self):
        request = cent.BroadcastRequest(channels=["kept:broadcast", "nowhere:room", "open:broadcast"], data=1)
        kept, unknown, unkept = self.api.broadcast(request).responses
        self.assertEqual(kept.result.offset, 1)
        self.assertEqual((unknown.error.code, unknown.result), (102, None))
        self.assertEqual((unkept.error, unkept.result.offset), (None, 0))

    def test_history_is_read_from_a_position_in_either_direction(self):
        epoch = self.publish("kept:history", 1, 2, 3)[0].epoch

        def read(**options):
            history = self.history("kept:history", **options)
            self.assertEqual((history.offset, history.epoch), (3, epoch))
            return [(pub.offset, pub.data) for pub in history.publications]

        self.assertEqual(read(), [])
        self.assertEqual(read(limit=-1), [(1, 1), (2, 2), (3, 3)])
        self.assertEqual(read(limit=2, reverse=True), [(3, 3), (2, 2)])
        self.assertEqual(read(limit=1, since=cent.StreamPosition(offset=1, epoch=epoch)), [(2, 2)])

    def test_history_remove_keeps_the_position(self):
        self.publish("kept:removed", 1, 2)
        self.api.history_remove(cent.HistoryRemoveRequest(channel="kept:removed"))
        history = self.history("kept:removed", limit=-1)
        self.assertEqual((history.publications, history.offset), ([], 2))

    def test_history_of_a_channel_without_one_is_not_available(self):
        with self.assertRaises(cent.CentApiResponseError) as refused:
            self.history("open:history")
        self.assertEqual(refused.exception.code, 108)

    def test_batch_answers_in_order(self):
        channel = "kept:batch"
        requests = [
            cent.PublishRequest(channel=channel, data=1),
            cent.HistoryRequest(channel=channel, limit=1),
            cent.ChannelsRequest(),
        ]
        published, history, channels = self.api.batch(cent.BatchRequest(requests=requests)).replies
        self.assertEqual(published.offset, 1)
        self.assertEqual([pub.data for pub in history.publications], [1])
        self.assertEqual(channels.channels, {})

    def test_info_names_the_node(self):
        (node,) = self.api.info(cent.InfoRequest()).nodes
        self.assertTrue(node.uid)
        self.assertTrue(node.name)
        self.assertTrue(node.version)
        self.assertEqual((node.num_clients, node.num_channels), (0, 0))


class Subscribers(TestCase):
    """Calls about who is connected, with the asynchronous client."""

    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway.serve(cls)

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.api = await self.enterAsyncContext(cent.AsyncClient(self.gateway.api_url, self.gateway.api_key))

    async def subscribe(self, user, channel):
        client, events = await self.gateway.connect(self, user)
        _, chat = await subscribe(client, channel)
        return events, chat

    async def test_a_publication_arrives_without_a_publisher(self):
        _, chat = await self.subscribe("ann", "open:news")
        await self.api.publish(cent.PublishRequest(channel="open:news", data={"text": "noon"}, tags={"kind": "clock"}))
        pub = (await chat.publication.next("the publication")).pub
        self.assertEqual((pub.data, pub.tags, pub.info), ({"text": "noon"}, {"kind": "clock"}, None))

    async def test_channels_tells_how_many_subscribers_each_has(self):
        for user, channel in (("ann", "open:many"), ("bob", "open:many"), ("ann", "kept:one")):
            await self.subscribe(user, channel)
        every = (await self.api.channels(cent.ChannelsRequest())).channels
        self.assertEqual((every["open:many"].num_clients, every["kept:one"].num_clients), (2, 1))
        some = (await self.api.channels(cent.ChannelsRequest(pattern="open:man*"))).channels
        self.assertEqual(list(some), ["open:many"])

    async def test_subscribe_and_unsubscribe_act_on_a_user(self):
        _, gus = await self.gateway.connect(self, "gus")
        await gus.connected.next("connected")
        await self.api.subscribe(cent.SubscribeRequest(user="gus", channel="open:inbox"))
        self.assertEqual((await gus.subscribed.next("the server-side subscription")).channel, "open:inbox")
        await self.api.publish(cent.PublishRequest(channel="open:inbox", data="for you"))
        self.assertEqual((await gus.publication.next("the publication")).pub.data, "for you")
        await self.api.unsubscribe(cent.UnsubscribeRequest(user="gus", channel="open:inbox"))
        self.assertEqual((await gus.unsubscribed.next("its end")).channel, "open:inbox")

    async def test_disconnect_ends_the_connections_of_a_user_for_good(self):
        eve, _ = await self.subscribe("eve", "open:chat")
        ann, _ = await self.subscribe("ann", "open:chat")
        await self.api.disconnect(cent.DisconnectRequest(user="eve"))
        end = await eve.disconnected.next("disconnected")
        self.assertEqual((end.code, end.reason), (3503, "force disconnect"))
        own = cent.Disconnect(code=4500, reason="enough")
        await self.api.disconnect(cent.DisconnectRequest(user="ann", disconnect=own))
        end = await ann.disconnected.next("disconnected")
        self.assertEqual((end.code, end.reason), (4500, "enough"))
