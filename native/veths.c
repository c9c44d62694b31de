/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the pods of this node are connected to it: its veths, and what is at their other ends.
 *
 * A pod may be root in its own network namespace, so nothing is taken from there that the pod could have made up, but for addresses,
 * which whoever asks must not believe blindly. Which veth leads into which namespace is what the kernel says of the node's own end: a
 * pod cannot make one that leads here, and interfaces or namespaces that it makes inside are no veths of the node's. The addresses of the other end
 * are asked for from here as well (IFA_TARGET_NETNSID, Linux 4.20): no thread enters the namespace, so none can be left there.
 */
#define _GNU_SOURCE
#include "netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

/* A dump's messages are at most so long (net/netlink/af_netlink.c). */
#define DUMP_BYTES 32768
/* Each time something came or went in the middle of the list. */
#define ATTEMPTS 5

typedef int (*dump_visitor)(void *context, const struct nlmsghdr *message);

int sluice_veths__open(void)
{
	int on = 1, netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (netlink < 0)
		return -errno;
	/* Without it, what a dump is asked to be about is overlooked: it would be about this namespace. */
	if (!setsockopt(netlink, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on)))
		return netlink;
	on = -errno;
	close(netlink);
	return on;
}

void sluice_veths__close(int socket)
{
	close(socket);
}

/*
 * Hands what a dump says to visit, until that returns an error. Returns 0, 1 when it is not of one point in time, or -errno. What is left of a
 * dump that was given up has its number, and is passed over by the next.
 */
static int dump(int netlink, struct request *request, dump_visitor visit, void *context)
{
	static _Thread_local uint32_t serial;
	union {
		struct nlmsghdr header;
		char bytes[DUMP_BYTES];
	} answer;
	int interrupted = 0, error = 0;
	ssize_t received;

	request->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request->header.nlmsg_seq = ++serial;
	if (send(netlink, request, request->header.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		received = recv(netlink, &answer, sizeof(answer), 0);
		if (received < 0)
			return -errno;
		for (const struct nlmsghdr *message = &answer.header; NLMSG_OK(message, received); message = NLMSG_NEXT(message, received)) {
			if (message->nlmsg_seq != request->header.nlmsg_seq)
				continue;
			interrupted |= message->nlmsg_flags & NLM_F_DUMP_INTR ? 1 : 0;
			if (message->nlmsg_type == NLMSG_ERROR)
				return ((const struct nlmsgerr *)NLMSG_DATA(message))->error;
			if (message->nlmsg_type == NLMSG_DONE)
				return error ? error : interrupted;
			if (!error)
				error = visit(context, message);
		}
	}
}

struct veth_list {
	struct sluice_veth *veths;
	uint32_t capacity;
	uint32_t count;
};

static uint32_t attribute_u32(const struct rtattr *attribute)
{
	return *(const uint32_t *)RTA_DATA(attribute);
}

static int veth_visit(void *context, const struct nlmsghdr *message)
{
	struct veth_list *list = context;
	const struct ifinfomsg *link = NLMSG_DATA(message);
	const struct rtattr *attributes = IFLA_RTA(link);
	size_t length = IFLA_PAYLOAD(message);
	const struct rtattr *info = attribute_find(attributes, length, IFLA_LINKINFO), *kind = NULL;
	const struct rtattr *peer = attribute_find(attributes, length, IFLA_LINK);
	const struct rtattr *network = attribute_find(attributes, length, IFLA_LINK_NETNSID);
	const struct rtattr *name = attribute_find(attributes, length, IFLA_IFNAME);
	const struct rtattr *hardware = attribute_find(attributes, length, IFLA_ADDRESS);
	struct sluice_veth *veth;

	if (info)
		kind = attribute_find(RTA_DATA(info), RTA_PAYLOAD(info), IFLA_INFO_KIND);
	if (!kind || strcmp(RTA_DATA(kind), "veth") || !peer || !network || !name || (int)attribute_u32(network) < 0)
		return 0;
	if (list->count == list->capacity)
		return -ENOSPC;
	veth = &list->veths[list->count++];
	*veth = (struct sluice_veth){ .ifindex = (uint32_t)link->ifi_index, .peer = attribute_u32(peer), .network = attribute_u32(network) };
	memcpy(veth->name, RTA_DATA(name), strnlen(RTA_DATA(name), sizeof(veth->name) - 1));
	if (hardware && RTA_PAYLOAD(hardware) == sizeof(veth->hardware))
		memcpy(veth->hardware, RTA_DATA(hardware), sizeof(veth->hardware));
	return 0;
}

static int veths_find(int netlink, struct veth_list *list)
{
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		struct request request = request_begin(RTM_GETLINK, 0, sizeof(struct ifinfomsg));
		uint32_t without = RTEXT_FILTER_SKIP_STATS;
		int outcome;

		request_add(&request, IFLA_EXT_MASK, &without, sizeof(without));
		list->count = 0;
		outcome = dump(netlink, &request, veth_visit, list);
		if (outcome <= 0)
			return outcome;
	}
	return -EAGAIN;
}

struct address_list {
	const struct sluice_veth *veth;
	uint8_t *addresses;
	uint32_t count;
};

static int address_visit(void *context, const struct nlmsghdr *message)
{
	struct address_list *list = context;
	const struct ifaddrmsg *address = NLMSG_DATA(message);
	const struct rtattr *local = attribute_find(IFA_RTA(address), IFA_PAYLOAD(message), IFA_LOCAL);
	const struct rtattr *found = local ? local : attribute_find(IFA_RTA(address), IFA_PAYLOAD(message), IFA_ADDRESS);
	uint8_t *to = list->addresses + list->count * 16;

	if (!found || address->ifa_index != list->veth->peer || list->count == SLUICE_VETH_ADDRESSES)
		return 0;
	memset(to, 0, 16);
	if (RTA_PAYLOAD(found) == 4) {
		to[10] = to[11] = 0xff;
		memcpy(to + 12, RTA_DATA(found), 4);
	} else if (RTA_PAYLOAD(found) == 16) {
		memcpy(to, RTA_DATA(found), 16);
	} else {
		return 0;
	}
	list->count++;
	return 0;
}

/*
 * The addresses of a veth's other end: none where the namespace is gone by now. A list that was not whole is taken as it is: a pod that
 * changes its addresses all the time could keep this from ever being done.
 */
static uint32_t addresses_find(int netlink, const struct sluice_veth *veth, uint8_t *addresses)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	struct address_list list = { .veth = veth, .addresses = addresses };

	for (int i = 0; i < 2; i++) {
		struct request request = request_begin(RTM_GETADDR, 0, sizeof(struct ifaddrmsg));

		request.address.ifa_family = families[i];
		request.address.ifa_index = veth->peer;
		request_add(&request, IFA_TARGET_NETNSID, &veth->network, sizeof(veth->network));
		(void)dump(netlink, &request, address_visit, &list);
	}
	return list.count;
}

int sluice_veths__list(int socket, struct sluice_veth *veths, uint8_t *addresses, uint32_t capacity)
{
	struct veth_list list = { .veths = veths, .capacity = capacity };
	int error = veths_find(socket, &list);

	if (error)
		return error;
	for (uint32_t i = 0; i < list.count; i++)
		veths[i].address_count = addresses_find(socket, &veths[i], addresses + (size_t)i * SLUICE_VETH_ADDRESSES * 16);
	return (int)list.count;
}

/* Opens what a path names only if it is a network namespace: a pipe would be waited for, and a device might act. */
static int network_open(const char *path)
{
	struct statfs system;
	char same[32];
	int file = open(path, O_PATH | O_CLOEXEC), network = -EINVAL;

	if (file < 0)
		return -errno;
	if (!fstatfs(file, &system) && system.f_type == NSFS_MAGIC) {
		snprintf(same, sizeof(same), "/proc/self/fd/%d", file);
		network = open(same, O_RDONLY | O_CLOEXEC);
		network = network < 0 ? -errno : network;
	}
	close(file);
	if (network < 0)
		return network;
	if (ioctl(network, NS_GET_NSTYPE) == CLONE_NEWNET)
		return network;
	close(network);
	return -EINVAL;
}

int sluice_veths__network(int socket, const char *path)
{
	struct request request = request_begin(RTM_GETNSID, 0, sizeof(struct rtgenmsg));
	struct {
		struct nlmsghdr header;
		char rest[512];
	} answer;
	int network = network_open(path), error = 0;
	const struct rtattr *id;
	uint32_t descriptor = (uint32_t)network;

	if (network < 0)
		return network;
	request.header.nlmsg_flags = NLM_F_REQUEST;
	request_add(&request, NETNSA_FD, &descriptor, sizeof(descriptor));
	if (send(socket, &request, request.header.nlmsg_len, 0) < 0 || recv(socket, &answer, sizeof(answer), 0) < 0)
		error = -errno;
	close(network);
	if (error)
		return error;
	if (answer.header.nlmsg_type == NLMSG_ERROR)
		return ((struct nlmsgerr *)NLMSG_DATA(&answer.header))->error;
	id = attribute_find((void *)((char *)NLMSG_DATA(&answer.header) + NLMSG_ALIGN(sizeof(struct rtgenmsg))),
			    answer.header.nlmsg_len - NLMSG_SPACE(sizeof(struct rtgenmsg)), NETNSA_NSID);
	if (!id)
		return -EPROTO;
	return (int)attribute_u32(id) < 0 ? -ENOENT : (int)attribute_u32(id);
}
