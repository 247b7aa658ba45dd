"""Who is in a channel, as `centrifuge-python` and `cent` see it."""

import cent
from support import Gateway, TestCase, subscribe


class Presence(TestCase):
    """In a namespace where subscribers may ask who is present and are told who joins and leaves."""

    @classmethod
    def setUpClass(cls):
        options = {"presence": True, "join_leave": True, "force_push_join_leave": True}
        cls.gateway = Gateway.serve(cls, **options, allow_presence_for_subscriber=True)

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.api = await self.enterAsyncContext(cent.AsyncClient(self.gateway.api_url, self.gateway.api_key))

    async def join(self, user, channel):
        """The id of a new client of `user`, its subscription and the events of that."""
        token = self.gateway.token(user, info={"name": user.title()})
        client, events = await self.gateway.connect(self, user, token=token)
        subscription, chat = await subscribe(client, channel)
        return (await events.connected.next("connected")).client, subscription, chat

    async def test_a_subscriber_asks_who_is_present(self):
        here = [await self.join(user, "kept:asked") for user in ("ann", "bob", "bob")]
        _, subscription, _ = here[0]
        clients = (await subscription.presence()).clients
        self.assertEqual(set(clients), {client for client, _, _ in here})
        for (client, _, _), user in zip(here, ("ann", "bob", "bob")):
            info = clients[client]
            self.assertEqual((info.client, info.user, info.conn_info), (client, user, {"name": user.title()}))
        stats = await subscription.presence_stats()
        self.assertEqual((stats.num_clients, stats.num_users), (3, 2))

    async def test_the_server_api_tells_who_is_present(self):
        channel = "kept:told"
        here = [await self.join(user, channel) for user in ("ann", "bob", "bob")]
        present = (await self.api.presence(cent.PresenceRequest(channel=channel))).presence
        expected = {client: user for (client, _, _), user in zip(here, ("ann", "bob", "bob"))}
        self.assertEqual({client: info.user for client, info in present.items()}, expected)
        self.assertEqual({info.client for info in present.values()}, set(expected))
        self.assertEqual(present[here[0][0]].conn_info, {"name": "Ann"})
        stats = await self.api.presence_stats(cent.PresenceStatsRequest(channel=channel))
        self.assertEqual((stats.num_clients, stats.num_users), (3, 2))

    async def test_nobody_is_present_where_nobody_is(self):
        self.assertEqual((await self.api.presence(cent.PresenceRequest(channel="kept:empty"))).presence, {})

    async def test_presence_is_not_available_where_it_is_off(self):
        with self.assertRaises(cent.CentApiResponseError) as refused:
            await self.api.presence(cent.PresenceRequest(channel="open:chat"))
        self.assertEqual(refused.exception.code, 108)

    async def test_who_joins_and_leaves_is_told_to_those_who_are_there(self):
        _, first, events = await self.join("ann", "kept:door")
        client, second, _ = await self.join("bob", "kept:door")
        seen = (await events.join.next("the first to join")).info
        if seen.user == "ann":  # One may or may not be told of oneself.
            seen = (await events.join.next("the second to join")).info
        self.assertEqual((seen.client, seen.user, seen.conn_info), (client, "bob", {"name": "Bob"}))
        await second.unsubscribe()
        left = (await events.leave.next("who left")).info
        self.assertEqual((left.client, left.user), (client, "bob"))
        self.assertEqual(len((await first.presence()).clients), 1)
