/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network that the proxy lives in: a namespace that nobody else uses, so that no rule of the node's (address translation,
 * connection tracking, reverse path filters, marks) meets half of what it does.
 *
 * Packets that enter through its veth are local, whatever their address; those that leave go through the veth. A socket may be bound to any
 * address there: the service's for a client, the pod's for a backend. Processes of the node are served in its own network, on the
 * loopback, and that is where their connections to backends begin.
 */
#define _GNU_SOURCE
#include "proxy.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define INSIDE "proxy"
#define LOCAL_TABLE 100
/* Above the range that pods take their own ports from, so that nobody takes one connection for the other. */
#define PORTS "61000 65535"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

static int file_write(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC), error = 0;

	if (file < 0)
		return -errno;
	if (write(file, text, strlen(text)) < 0)
		error = -errno;
	close(file);
	return error;
}

/* Where packets enter and leave through one interface, a reverse path says nothing. */
static int reverse_path_unfiltered(const char *interface)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/rp_filter", interface);
	return file_write(path, "0");
}

static int network_fill(void)
{
	static const int families[] = { AF_INET, AF_INET6 };
	static const uint8_t address[] = PROXY_LINK_ADDRESS;
	int error = netlink_link_up("lo", 0, 0);

	error = error ? error : netlink_link_address(INSIDE, address);
	error = error ? error : netlink_link_up(INSIDE, IFF_NOARP, 0);
	error = error ? error : reverse_path_unfiltered("all");
	error = error ? error : reverse_path_unfiltered(INSIDE);
	error = error ? error : file_write("/proc/sys/net/ipv4/ip_local_port_range", PORTS);
	for (int i = 0; i < 2 && !error; i++) {
		/* A kernel without IPv6 has nothing to steer there. */
		if (families[i] == AF_INET6 && access("/proc/sys/net/ipv6", F_OK))
			break;
		error = netlink_rule_add(families[i], INSIDE, LOCAL_TABLE);
		error = error ? error : netlink_route_default(families[i], if_nametoindex("lo"), RTN_LOCAL, LOCAL_TABLE);
		error = error ? error : netlink_route_default(families[i], if_nametoindex(INSIDE), RTN_UNICAST, RT_TABLE_MAIN);
	}
	return error;
}

static int socket_transparent(int socket)
{
	int on = 1;

	return setsockopt(socket, SOL_IP, IP_TRANSPARENT, &on, sizeof(on)) || setsockopt(socket, SOL_IPV6, IPV6_TRANSPARENT, &on, sizeof(on));
}

/* Listens on an address, and where programs find the socket. Returns its descriptor, or -errno. */
static int listener_open(const struct sockaddr_in6 *address, int transparent, int listeners, enum proxy_listener index, int backlog)
{
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), off = 0, on = 1, error;
	uint32_t key = index;
	uint64_t value;

	if (listener < 0)
		return -errno;
	value = (uint64_t)listener;
	if (setsockopt(listener, SOL_IPV6, IPV6_V6ONLY, &off, sizeof(off)) || setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) ||
	    (transparent && socket_transparent(listener)) || bind(listener, (void *)address, sizeof(*address)) || listen(listener, backlog))
		error = -errno;
	else
		error = bpf_map_update_elem(listeners, &key, &value, BPF_ANY);
	if (!error)
		return listener;
	close(listener);
	return error;
}

static void sockets_close(int *sockets)
{
	for (int i = 0; i < PROXY_LISTENER_MAX; i++) {
		if (sockets[i] >= 0)
			close(sockets[i]);
		sockets[i] = -1;
	}
}

/* Listens for processes, in the network of the node. */
static int listeners_open_node(int listeners, int backlog, int *sockets)
{
	struct sockaddr_in6 loopback = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT }, mapped = { .sin6_family = AF_INET6 };

	mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xff;
	mapped.sin6_addr.s6_addr[12] = 127;
	mapped.sin6_addr.s6_addr[15] = 1;
	sockets[PROXY_LISTENER_IPV4] = listener_open(&mapped, 0, listeners, PROXY_LISTENER_IPV4, backlog);
	if (sockets[PROXY_LISTENER_IPV4] < 0)
		return sockets[PROXY_LISTENER_IPV4];
	/* A node without IPv6 addresses has nobody who would connect to one. */
	sockets[PROXY_LISTENER_IPV6] = listener_open(&loopback, 0, listeners, PROXY_LISTENER_IPV6, backlog);
	if (sockets[PROXY_LISTENER_IPV6] < 0 && sockets[PROXY_LISTENER_IPV6] != -EADDRNOTAVAIL)
		return sockets[PROXY_LISTENER_IPV6];
	return 0;
}

/* Listens for pods, in this thread's network. */
static int listener_open_pods(struct sluice_proxy *proxy, const struct sluice_proxy_parts *parts, int *sockets)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(1) };

	sockets[PROXY_LISTENER_PODS] = listener_open(&any, 1, parts->listeners, PROXY_LISTENER_PODS, parts->backlog);
	if (sockets[PROXY_LISTENER_PODS] < 0)
		return sockets[PROXY_LISTENER_PODS];
	proxy->link = bpf_link_create(parts->picker, proxy->network, BPF_SK_LOOKUP, NULL);
	return proxy->link < 0 ? proxy->link : 0;
}

/* Makes the veth from the node's side of things. Returns the index of its interface there, or -errno. */
static int veth_open(const char *interface, int network, int program)
{
	int error = netlink_link_delete(interface), ifindex;

	error = error ? error : netlink_veth_add(interface, INSIDE, network);
	error = error ? error : netlink_link_up(interface, 0, 0);
	if (error)
		return error;
	ifindex = (int)if_nametoindex(interface);
	if (!ifindex)
		return -errno;
	error = link_attach_passing(program, (uint32_t)ifindex, DIRECTION_EGRESS);
	return error < 0 ? error : ifindex;
}

/* Says to programs that the proxy takes connections. */
static int proxy_publish(struct sluice_proxy *proxy, int engine_states, int ifindex, int listener)
{
	void *memory = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, engine_states, 0);
	uint64_t cookie = 0;
	socklen_t size = sizeof(cookie);

	if (memory == MAP_FAILED)
		return -errno;
	proxy->published = memory;
	if (getsockopt(listener, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size))
		return -errno;
	proxy_beat(proxy);
	__atomic_store_n(&proxy->published->network, cookie, __ATOMIC_RELAXED);
	__atomic_store_n(&proxy->published->proxy, (uint32_t)ifindex, __ATOMIC_RELEASE);
	return 0;
}

/* Makes a network, and moves this thread there. Returns the index of the interface that leads to it, at the node, or -errno. */
static int network_open(struct sluice_proxy *proxy, const struct sluice_proxy_parts *parts)
{
	int ifindex;

	if (unshare(CLONE_NEWNET))
		return -errno;
	proxy->network = open(OWN_NETWORK, O_RDONLY | O_CLOEXEC);
	if (proxy->network < 0 || setns(proxy->node, CLONE_NEWNET))
		return -errno;
	ifindex = veth_open(parts->interface, proxy->network, parts->program);
	if (ifindex >= 0 && setns(proxy->network, CLONE_NEWNET))
		return -errno;
	return ifindex;
}

static int proxy_start(struct sluice_proxy *proxy, const struct sluice_proxy_parts *parts, int *sockets)
{
	int error, ifindex;

	proxy->node = open(OWN_NETWORK, O_RDONLY | O_CLOEXEC);
	if (proxy->node < 0)
		return -errno;
	error = listeners_open_node(parts->listeners, parts->backlog, sockets);
	if (error)
		return error;
	ifindex = network_open(proxy, parts);
	if (ifindex < 0)
		return ifindex;
	error = network_fill();
	error = error ? error : listener_open_pods(proxy, parts, sockets);
	return error ? error : proxy_publish(proxy, parts->engine_states, ifindex, sockets[PROXY_LISTENER_IPV4]);
}

int sluice_proxy__open(const struct sluice_proxy_parts *parts, int32_t *sockets, struct sluice_proxy **result)
{
	struct sluice_proxy *proxy = malloc(sizeof(*proxy));
	int error;

	if (!proxy)
		return -ENOMEM;
	*proxy = (struct sluice_proxy){ .network = -1, .node = -1, .finder = parts->finder, .link = -1 };
	for (int i = 0; i < PROXY_LISTENER_MAX; i++)
		sockets[i] = -1;
	error = proxy_start(proxy, parts, sockets);
	if (!error) {
		*result = proxy;
		return 0;
	}
	sockets_close(sockets);
	if (proxy->node >= 0)
		(void)setns(proxy->node, CLONE_NEWNET);
	sluice_proxy__close(proxy);
	return error;
}

void proxy_beat(struct sluice_proxy *proxy)
{
	if (!proxy->draining)
		__atomic_store_n(&proxy->published->proxy_heartbeat_ns, sluice_kernel__now_ns(), __ATOMIC_RELAXED);
}

void sluice_proxy__drain(struct sluice_proxy *proxy)
{
	proxy->draining = 1;
	__atomic_store_n(&proxy->published->proxy_heartbeat_ns, 0, __ATOMIC_RELAXED);
}

void sluice_proxy__close(struct sluice_proxy *proxy)
{
	if (proxy->published) {
		sluice_proxy__drain(proxy);
		munmap(proxy->published, (size_t)sysconf(_SC_PAGESIZE));
	}
	if (proxy->link >= 0)
		close(proxy->link);
	if (proxy->network >= 0)
		close(proxy->network);
	if (proxy->node >= 0)
		close(proxy->node);
	free(proxy);
}
