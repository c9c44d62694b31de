/* SPDX-License-Identifier: Apache-2.0 */
/* The three requests to rtnetlink(7) that the engine's own veth pair takes. */
#include "internal.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The largest that veth takes: a held packet of any interface fits. */
#define LARGEST_MTU 65535

struct request {
	struct nlmsghdr header;
	struct ifinfomsg link;
	char attributes[512];
};

static struct rtattr *request_add(struct request *request, uint16_t type, const void *data, uint16_t length)
{
	struct rtattr *attribute = (void *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));

	attribute->rta_type = type;
	attribute->rta_len = (uint16_t)RTA_LENGTH(length);
	if (length)
		memcpy(RTA_DATA(attribute), data, length);
	request->header.nlmsg_len = NLMSG_ALIGN(request->header.nlmsg_len) + RTA_ALIGN(attribute->rta_len);
	return attribute;
}

static void request_close(struct request *request, struct rtattr *nest)
{
	nest->rta_len = (uint16_t)((char *)request + request->header.nlmsg_len - (char *)nest);
}

static struct request request_begin(uint16_t type, uint16_t flags)
{
	struct request request;

	memset(&request, 0, sizeof(request));
	request.header.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg));
	request.header.nlmsg_type = type;
	request.header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	return request;
}

static int request_send(const struct request *request)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[512];
	} answer;
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), error = 0;

	if (netlink < 0)
		return -errno;
	if (send(netlink, request, request->header.nlmsg_len, 0) < 0 || recv(netlink, &answer, sizeof(answer), 0) < 0)
		error = -errno;
	else if (answer.header.nlmsg_type != NLMSG_ERROR)
		error = -EPROTO;
	else
		error = answer.error.error;
	close(netlink);
	return error;
}

static int link_set_up(const char *interface)
{
	struct request request = request_begin(RTM_NEWLINK, 0);
	uint32_t mtu = LARGEST_MTU;

	request.link.ifi_index = (int)if_nametoindex(interface);
	request.link.ifi_flags = IFF_UP;
	request.link.ifi_change = IFF_UP;
	if (!request.link.ifi_index)
		return -errno;
	request_add(&request, IFLA_MTU, &mtu, sizeof(mtu));
	return request_send(&request);
}

int netlink_veth_create(const char *interface, const char *peer)
{
	struct request request = request_begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	struct ifinfomsg peer_link = {};
	struct rtattr *info, *data, *peer_info;
	int error;

	request_add(&request, IFLA_IFNAME, interface, (uint16_t)(strlen(interface) + 1));
	info = request_add(&request, IFLA_LINKINFO, NULL, 0);
	request_add(&request, IFLA_INFO_KIND, "veth", sizeof("veth"));
	data = request_add(&request, IFLA_INFO_DATA, NULL, 0);
	peer_info = request_add(&request, VETH_INFO_PEER, &peer_link, sizeof(peer_link));
	request_add(&request, IFLA_IFNAME, peer, (uint16_t)(strlen(peer) + 1));
	request_close(&request, peer_info);
	request_close(&request, data);
	request_close(&request, info);
	error = request_send(&request);
	if (error && error != -EEXIST)
		return error;
	error = link_set_up(peer);
	return error ? error : link_set_up(interface);
}

int netlink_link_delete(const char *interface)
{
	struct request request = request_begin(RTM_DELLINK, 0);

	request.link.ifi_index = (int)if_nametoindex(interface);
	if (!request.link.ifi_index)
		return errno == ENODEV ? 0 : -errno;
	return request_send(&request);
}
