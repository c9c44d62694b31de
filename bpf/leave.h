/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Where a packet goes that policy lets pass: by the path of its connection, to where what it says is read, or on.
 *
 * A connection may be proxied and translated: the pod's packets go to the proxy then, and it is the proxy that speaks to the backend.
 * One to a Service may be proxied, too, where the rule is about its backend: the proxy gets them with that one's address.
 */
#ifndef SLUICE_LEAVE_H
#define SLUICE_LEAVE_H

#include "engine.h"
#include "fragments.h"
#include "journey.h"
#include "switches.h"

/* Whether packet_leave may meet a connection whose first words are read. A constant of each stage: edges follow from it. */
enum reading_rule {
	LEAVE_READ,
	LEAVE_UNREAD,
};

/* Whether the packet is to or from port 53, which behind a Service may be another one. */
static __always_inline int journey_is_resolver(const struct journey *journey, enum direction direction)
{
	const struct packet *packet = &journey->packet;

	if (packet_is_dns(packet, direction))
		return 1;
	return journey_has_backend(journey) && journey->judged.other.port == DNS_PORT &&
	       (packet->protocol == IPPROTO_UDP || packet->protocol == IPPROTO_TCP);
}

/* Whether the packet is to be read as a DNS message, or begins a connection whose messages nobody can read. */
static __always_inline int journey_is_dns(const struct journey *journey, const enum hook hook)
{
	const struct packet *packet = &journey->packet;

	if (!switches.names)
		return 0;
	if (journey_is_resolver(journey, hook_direction(hook)))
		return 1;
	/* Of a connection whose messages are encrypted, its first packet is all that there is to see. */
	return hook_direction(hook) == DIRECTION_EGRESS && packet->destination_port == DNS_ENCRYPTED_PORT &&
	       journey->reason != REASON_PASS_ESTABLISHED && journey->reason != REASON_PASS_REPLY;
}

static __always_inline void enter_translate(struct __sk_buff *skb, const enum hook hook)
{
	if (hook == HOOK_FROM_POD)
		enter_translate_out(skb);
	else
		enter_translate_back(skb);
}

static __always_inline void enter_hello(struct __sk_buff *skb, enum direction direction)
{
	if (direction == DIRECTION_EGRESS)
		enter_hello_from_pod(skb);
	else
		enter_hello_to_pod(skb);
}

/* Lets a packet pass that was counted: with the address that it is to have where it goes. */
static __always_inline int packet_go(struct __sk_buff *skb, struct journey *journey, const enum hook hook)
{
	/* Each by itself: the compiler does not fold what is one of several conditions. */
	if (hook == HOOK_FROM_POD) {
		if (journey_has_backend(journey)) {
			enter_translate_out(skb);
			return packet_drop(skb, journey, DIRECTION_EGRESS, REASON_FAIL_STAGE);
		}
	}
	if (hook == HOOK_TO_POD) {
		if (journey_has_backend(journey) || journey->quotes) {
			enter_translate_back(skb);
			return packet_drop(skb, journey, DIRECTION_INGRESS, REASON_FAIL_STAGE);
		}
	}
	return OUTCOME_NEXT;
}

static __always_inline int packet_pass(struct __sk_buff *skb, struct journey *journey, enum reason reason, const enum hook hook)
{
	count(skb, reason);
	return packet_go(skb, journey, hook);
}

/* The end of a packet of an endpoint with an interface whose connection is proxied: to the proxy, or back there. */
static __always_inline int packet_leave_proxied(struct __sk_buff *skb, struct journey *journey, const enum hook hook)
{
	if (hook_direction(hook) == DIRECTION_EGRESS) {
		if (!journey_has_backend(journey))
			return proxy_send(skb, journey, journey->reason);
		enter_translate_out(skb);
		return packet_drop(skb, journey, DIRECTION_EGRESS, REASON_FAIL_STAGE);
	}
	enter_return_to_proxy(skb);
	return packet_drop(skb, journey, hook_direction(hook), REASON_FAIL_STAGE);
}

/*
 * Lets the later fragments of the packet follow, which have no ports that would say whose they are; they get the same address. Known by
 * what their bytes say. Global, as packet_parse.
 */
__noinline int fragment_note(struct journey *journey, __u32 direction, int has_backend)
{
	struct fragment fragment = { .until_ns = bpf_ktime_get_ns() + FRAGMENTS_NS };
	struct fragment_key key;

	if (!journey)
		return 0;
	fragment_key_fill(&key, &journey->packet, journey->endpoint, direction);
	if (has_backend && direction == DIRECTION_INGRESS) {
		__builtin_memcpy(fragment.other, journey->judged.other.address, 16);
	} else if (has_backend) {
		__builtin_memcpy(fragment.other, journey->packet.destination, 16);
		__builtin_memcpy(key.destination, journey->judged.other.address, 16);
	}
	bpf_map_update_elem(&fragments, &key, &fragment, BPF_ANY);
	return 0;
}

/* The end of a packet that policy has allowed, for the reason in its journey. */
static __always_inline int packet_leave(struct __sk_buff *skb, struct journey *journey, const enum hook hook,
					const enum reading_rule rule)
{
	__u8 path = hook_is_interface(hook) ? journey->judged.path : 0;

	if ((path & FLOW_PATH_PROXIED) && (hook == HOOK_FROM_POD || !packet_is_proxied(skb)))
		return packet_leave_proxied(skb, journey, hook);
	if (path & FLOW_PATH_TRANSLATED) {
		count(skb, journey->reason);
		enter_translate(skb, hook);
		return packet_drop(skb, journey, hook_direction(hook), REASON_FAIL_STAGE);
	}
	if (rule == LEAVE_UNREAD && hook_is_interface(hook) && journey->judged.unread) {
		enter_hello(skb, hook_direction(hook));
		return packet_drop(skb, journey, hook_direction(hook), REASON_FAIL_STAGE);
	}
	if (journey->packet.first_fragment)
		fragment_note(journey, hook_direction(hook), hook_is_interface(hook) && journey_has_backend(journey));
	if (journey_is_dns(journey, hook)) {
		enter_dns(skb, hook);
		return packet_drop(skb, journey, hook_direction(hook), REASON_FAIL_STAGE);
	}
	return packet_pass(skb, journey, journey->reason, hook);
}

#endif
