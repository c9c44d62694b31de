/* SPDX-License-Identifier: Apache-2.0 */
/* The proxy's network, as proxy.c and proxy-connection.c know it. */
#ifndef SLUICE_PROXY_H
#define SLUICE_PROXY_H

#include "internal.h"

/* Where a thread's own network is to be opened. */
#define OWN_NETWORK "/proc/thread-self/ns/net"

struct sluice_proxy {
	struct engine_state *published;
	int network;	/* where its thread is */
	int node;	/* where that came from */
	int finder;	/* the program origin_of, which is the object's */
	int link;	/* of the program that gives connections to their listener */
	int draining;	/* it serves who is connected, and takes nobody new */
};

#endif
