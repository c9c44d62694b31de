/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic.h"
#include "message.h"

#include <netinet/in.h>
#include <string.h>

#define DNS 53
#define TCP_END 12	/* steps after which a connection is closed */
#define LOOPBACK 1

static void talk_begin(struct traffic *traffic, struct talk *talk)
{
	static const uint8_t protocols[] = { IPPROTO_TCP, IPPROTO_TCP, IPPROTO_TCP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDP, IPPROTO_UDP, IPPROTO_SCTP,
					     IPPROTO_ICMP, 47 };
	struct random *random = traffic->random;
	int v4 = random_percent(random, 60);
	uint16_t port = world_ports[random_below(random, world_port_count)], high = (uint16_t)(40000 + random_below(random, 24));

	memset(talk, 0, sizeof(*talk));
	talk->home = &traffic->world->homes[random_below(random, ENDPOINTS)];
	talk->local = talk->home->addresses[!v4];
	talk->remote = world_address(random, v4);
	if (random_percent(random, 3))
		talk->local = world_address(random, v4);
	talk->protocol = RANDOM_OF(random, protocols);
	if (!v4 && talk->protocol == IPPROTO_ICMP)
		talk->protocol = IPPROTO_ICMPV6;
	talk->opener = random_percent(random, 60) ? SPEAKER_ENDPOINT : SPEAKER_REMOTE;
	talk->local_port = talk->opener == SPEAKER_ENDPOINT ? high : port;
	talk->remote_port = talk->opener == SPEAKER_ENDPOINT ? port : high;
	talk->sequence[0] = (uint32_t)random_next(random);
	talk->sequence[1] = (uint32_t)random_next(random);
	talk->dns_id = (uint16_t)random_below(random, 4);
	talk->dns_name = random_below(random, traffic->world->sides->plan->name_count);
	talk->dns_type = random_percent(random, 60) ? 1 : 28;
	if (port != DNS || talk->opener != SPEAKER_ENDPOINT || !random_percent(random, 80))
		return;
	talk->remote = world_address(random, v4);	/* resolvers are met more often than others */
	while (talk->remote.bytes[15] != (v4 ? 53 : 0x53))
		talk->remote = world_address(random, v4);
	if (talk->protocol != IPPROTO_TCP)
		talk->protocol = IPPROTO_UDP;
}

void traffic_begin(struct traffic *traffic, struct world *world)
{
	traffic->world = world;
	traffic->random = world->random;
	for (uint32_t i = 0; i < TALKS; i++)
		talk_begin(traffic, &traffic->talks[i]);
}

static int talk_is_dns(const struct talk *talk)
{
	return (talk->protocol == IPPROTO_UDP || talk->protocol == IPPROTO_TCP) && (talk->remote_port == DNS || talk->local_port == DNS);
}

/* The next thing that is said, and by whom; returns the length of what stands in payload. */
static uint32_t talk_words(struct traffic *traffic, struct talk *talk, enum speaker speaker)
{
	struct random *random = traffic->random;
	int prefix = talk->protocol == IPPROTO_TCP ? 2 : 0;
	uint8_t *bytes = traffic->payload + prefix;
	uint32_t length;

	if (!talk_is_dns(talk)) {
		length = random_percent(random, 90) ? random_below(random, 64) : random_below(random, sizeof(traffic->payload));
		memset(traffic->payload, (int)random_below(random, 256), length);
		return length;
	}
	length = message_query(bytes, &traffic->world->sides->plan->names[talk->dns_name], talk->dns_id, talk->dns_type, random_percent(random, 30));
	if (speaker != talk->opener)
		length = message_answer(bytes, length, talk->dns_type, random);
	if (random_percent(random, 12))
		length = message_spoil(bytes, length, random);
	if (prefix) {
		traffic->payload[0] = (uint8_t)(length >> 8);
		traffic->payload[1] = (uint8_t)length;
	}
	return prefix + length;
}

/* The TCP flags of a connection's next packet, and who sends it. */
static uint8_t tcp_next(struct traffic *traffic, struct talk *talk, enum speaker *speaker)
{
	struct random *random = traffic->random;

	*speaker = talk->opener;
	switch (talk->step++) {
	case 0:
		return TCP_SYN;
	case 1:
		*speaker = !talk->opener;
		return TCP_SYN | TCP_ACK;
	case 2:
		return TCP_ACK;
	default:
		break;
	}
	if (random_percent(random, 40))
		*speaker = !talk->opener;
	if (talk->step > TCP_END) {
		talk->step = random_percent(random, 70) ? TCP_END : 0;
		return random_percent(random, 60) ? TCP_FIN | TCP_ACK : TCP_RST | (random_percent(random, 50) ? TCP_ACK : 0);
	}
	if (random_percent(random, 2))
		return TCP_PSH | TCP_ACK | TCP_URG;
	return random_percent(random, 25) ? TCP_ACK : TCP_PSH | TCP_ACK;
}

static void segment_address(struct segment *segment, const struct talk *talk, enum speaker speaker)
{
	int out = speaker == SPEAKER_ENDPOINT;

	segment->source = out ? talk->local : talk->remote;
	segment->destination = out ? talk->remote : talk->local;
	segment->source_port = out ? talk->local_port : talk->remote_port;
	segment->destination_port = out ? talk->remote_port : talk->local_port;
	segment->protocol = talk->protocol;
	segment->hop_limit = 64;
}

static void talk_next(struct traffic *traffic, struct talk *talk, struct segment *segment, enum speaker *speaker)
{
	struct random *random = traffic->random;

	if (talk->protocol == IPPROTO_TCP) {
		segment->flags = tcp_next(traffic, talk, speaker);
		if (random_percent(random, 8))
			segment->flags = (uint8_t)random_below(random, 64);
	} else {
		*speaker = talk->step++ & 1 ? !talk->opener : talk->opener;
	}
	if (random_percent(random, 5))
		*speaker = !*speaker;
	segment_address(segment, talk, *speaker);
	segment->sequence = talk->sequence[*speaker];
	segment->acknowledged = talk->sequence[!*speaker];
	if (segment->protocol == IPPROTO_ICMP || segment->protocol == IPPROTO_ICMPV6) {
		int v4 = segment->protocol == IPPROTO_ICMP;

		segment->type = *speaker == talk->opener ? (v4 ? 8 : 128) : (v4 ? 0 : 129);
		segment->source_port = talk->local_port;
		if (random_percent(random, 10))
			segment->type = (uint8_t)random_below(random, 140);
	}
	if (segment->protocol != IPPROTO_TCP || (segment->flags & TCP_PSH) || random_percent(random, 3))
		segment->payload_length = talk_words(traffic, talk, *speaker);
	segment->payload = traffic->payload;
	if (random_percent(random, 10))
		segment->sequence -= random_below(random, 300);
	else
		talk->sequence[*speaker] += segment->payload_length + !!(segment->flags & (TCP_SYN | TCP_FIN));
	if (random_percent(random, 5))
		segment->acknowledged += random_below(random, 300) - 150;
}

/* An error about what somebody else has said: it comes from the other side, or from a router. */
static void error_next(struct traffic *traffic, struct talk *talk, struct segment *segment, enum speaker *speaker)
{
	static const uint8_t types[] = { 3, 11, 12, 5 };
	struct random *random = traffic->random;
	struct segment quoted = { .payload = traffic->payload };
	int v4 = address_is_v4(&talk->local);
	uint32_t length;

	segment_address(&quoted, talk, random_percent(random, 50) ? SPEAKER_ENDPOINT : SPEAKER_REMOTE);
	if (quoted.protocol == IPPROTO_ICMP || quoted.protocol == IPPROTO_ICMPV6) {
		quoted.type = v4 ? 8 : 128;
		quoted.source_port = talk->local_port;
	}
	quoted.flags = TCP_ACK;
	*speaker = random_percent(random, 70) ? SPEAKER_REMOTE : SPEAKER_ENDPOINT;
	segment_address(segment, talk, *speaker);
	length = frame_network(traffic->payload + 256, &quoted);
	if (random_percent(random, 20))
		length = random_below(random, length);
	segment->protocol = v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	segment->type = v4 ? RANDOM_OF(random, types) : (uint8_t)(1 + random_below(random, 5));
	segment->source_port = 0;
	if (*speaker == SPEAKER_REMOTE && random_percent(random, 30))
		segment->source = world_address(random, v4);
	segment->payload = traffic->payload + 256;
	segment->payload_length = length;
}

/* Whatever two addresses may say. */
static void stray_next(struct traffic *traffic, struct talk *talk, struct segment *segment, enum speaker *speaker)
{
	struct random *random = traffic->random;

	*speaker = random_percent(random, 50) ? SPEAKER_ENDPOINT : SPEAKER_REMOTE;
	segment_address(segment, talk, *speaker);
	if (*speaker == SPEAKER_REMOTE)
		segment->source = world_address(random, address_is_v4(&talk->local));
	else
		segment->destination = world_address(random, address_is_v4(&talk->local));
	segment->protocol = random_percent(random, 60) ? talk->protocol : (uint8_t)random_below(random, 140);
	segment->flags = (uint8_t)random_below(random, 64);
	segment->type = random_percent(random, 40) ? (uint8_t)(133 + random_below(random, 5)) : (uint8_t)random_next(random);
	segment->hop_limit = random_percent(random, 60) ? 255 : 64;
	segment->payload = traffic->payload;
	segment->payload_length = random_below(random, 64);
}

static void segment_dress(struct random *random, struct segment *segment)
{
	if (random_percent(random, 5))
		segment->tags = (uint8_t)random_below(random, 4);
	if (random_percent(random, 8))
		segment->extensions = (uint8_t)random_below(random, 10);
	if (segment->protocol == IPPROTO_TCP ? random_percent(random, 1) : random_percent(random, 8)) {
		segment->fragment_id = (uint16_t)random_below(random, 8);
		segment->more_fragments = random_percent(random, 70);
		if (random_percent(random, 50))
			segment->fragment_offset = (uint16_t)(8 * (1 + random_below(random, 8)));
	}
}

/* Where a packet of this endpoint, or for it, appears. */
static void trial_place(struct traffic *traffic, struct trial *trial, const struct home *home, enum speaker speaker)
{
	struct random *random = traffic->random;
	int out = speaker == SPEAKER_ENDPOINT, process = home->id >= ENDPOINT_ID_CGROUP;
	const uint32_t from[] = { 0, LOOPBACK, traffic->world->proxy, traffic->world->homes[0].id, traffic->world->homes[1].id };

	if (process)
		trial->hook = out ? HOOK_FROM_PROCESS : HOOK_TO_PROCESS;
	else
		trial->hook = out ? HOOK_FROM_POD : HOOK_TO_POD;
	trial->process = process ? home->id : 0;
	trial->ifindex = process ? LOOPBACK : home->id;
	trial->ingress_ifindex = out ? (process ? 0 : home->id) : RANDOM_OF(random, from);
	if (random_percent(random, 3))
		trial->mark = TOKEN + random_below(random, MARK_MAX + 1);
	if (random_percent(random, 2))
		trial->gso_size = 20 + random_below(random, 1400);
	if (out || process)
		return;
	if (random_percent(random, 6)) {
		trial->hook = HOOK_FROM_PROXY;
		trial->ifindex = traffic->world->proxy;
		trial->ingress_ifindex = traffic->world->proxy;
	} else if (random_percent(random, 3)) {
		trial->hook = HOOK_EXPLAIN;
		trial->mark = home->id;
		trial->asked = random_below(random, 2);
	} else if (random_percent(random, 1)) {
		trial->hook = HOOK_RELEASE;
		trial->mark = home->id | (random_percent(random, 30) ? RELEASE_DECIDED : 0) | (random_percent(random, 30) ? RELEASE_PASSED : 0);
	}
}

void traffic_next(struct traffic *traffic, struct trial *trial)
{
	struct random *random = traffic->random;
	struct talk *talk = &traffic->talks[random_below(random, TALKS)];
	struct segment segment = {};
	uint32_t kind = random_below(random, 100);
	enum speaker speaker;

	if (random_percent(random, 1))
		talk_begin(traffic, talk);
	if (kind < 86)
		talk_next(traffic, talk, &segment, &speaker);
	else if (kind < 92)
		error_next(traffic, talk, &segment, &speaker);
	else
		stray_next(traffic, talk, &segment, &speaker);
	segment_dress(random, &segment);
	memset(trial, 0, offsetof(struct trial, bytes));
	trial->length = frame_build(trial->bytes, &segment);
	if (random_percent(random, 10))
		trial->length = frame_spoil(trial->bytes, trial->length, random);
	if (random_percent(random, 1)) {	/* ARP, or nothing that anybody knows */
		trial->bytes[12] = 0x08;
		trial->bytes[13] = (uint8_t)random_next(random);
	}
	trial_place(traffic, trial, talk->home, speaker);
}
