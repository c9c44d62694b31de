/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Where a packet goes that policy lets pass: by the path of its connection, to where what it says is read, or on.
 *
 * A connection may be proxied and translated: the pod's packets go to the proxy then, and it is the proxy that speaks to the backend.
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

/* Whether the packet is to be read as a DNS message, or begins a connection whose messages nobody can read. */
static __always_inline int journey_is_dns(const struct journey *journey, const enum hook hook)
{
	const struct packet *packet = &journey->packet;

	if (!switches.names)
		return 0;
	if (packet_is_dns(packet, hook_direction(hook)))
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

/* The end of a packet of an endpoint with an interface whose connection is proxied: to the proxy, or back there. */
static __always_inline int packet_leave_proxied(struct __sk_buff *skb, struct journey *journey, const enum hook hook)
{
	if (hook_direction(hook) == DIRECTION_EGRESS)
		return proxy_send(skb, journey, journey->reason);
	enter_return_to_proxy(skb);
	return packet_drop(skb, journey, hook_direction(hook), REASON_FAIL_STAGE);
}

/* The end of a packet that policy has allowed, for the reason in its journey. */
static __always_inline int packet_leave(struct __sk_buff *skb, struct journey *journey, const enum hook hook,
					const enum reading_rule rule)
{
	__u8 path = hook_is_interface(hook) ? journey->judged.path : 0;

	if ((path & FLOW_PATH_PROXIED) && (hook == HOOK_FROM_POD || !packet_is_proxied(skb)))
		return packet_leave_proxied(skb, journey, hook);
	if (path & FLOW_PATH_TRANSLATED) {
		enter_translate(skb, hook);
		return packet_drop(skb, journey, hook_direction(hook), REASON_FAIL_STAGE);
	}
	if (rule == LEAVE_UNREAD && hook_is_interface(hook) && journey->judged.unread) {
		enter_hello(skb, hook_direction(hook));
		return packet_drop(skb, journey, hook_direction(hook), REASON_FAIL_STAGE);
	}
	if (journey->packet.first_fragment)
		fragment_note(&journey->packet, journey->endpoint, hook_direction(hook));
	if (journey_is_dns(journey, hook)) {
		enter_dns(skb, hook);
		return packet_drop(skb, journey, hook_direction(hook), REASON_FAIL_STAGE);
	}
	return pass(skb, journey->reason);
}

#endif
