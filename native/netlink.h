/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to rtnetlink(7) and what answers are made of, for the files that speak it. */
#ifndef SLUICE_NETLINK_H
#define SLUICE_NETLINK_H

#include "internal.h"

#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <stddef.h>

struct request {
	struct nlmsghdr header;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg address;
		struct rtmsg route;
		struct fib_rule_hdr rule;
		struct rtgenmsg general;
	};
	char attributes[512];
};

/* fixed: bytes of the part that all requests of this type have. */
struct request request_begin(uint16_t type, uint16_t flags, uint32_t fixed);
/* Returns the attribute, to be given to request_close when others were added to it. */
struct rtattr *request_add(struct request *request, uint16_t type, const void *data, uint16_t length);
void request_close(struct request *request, struct rtattr *nest);
/* Returns the first of that type, or NULL. length: bytes of all of them. */
const struct rtattr *attribute_find(const struct rtattr *attribute, size_t length, uint16_t type);

#endif
