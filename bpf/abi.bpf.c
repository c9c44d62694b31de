/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Never loaded: compiled only so that its BTF names every type of abi.h and plugin-abi.h, from which the codecs are generated.
 * A type that no global uses is absent from BTF, so each one stands here once.
 */
#include "abi.h"
#include "plugin-abi.h"

#define EXPORT_ENUM(name) enum name abi_enum_##name
#define EXPORT_STRUCT(name) struct name abi_struct_##name

EXPORT_ENUM(abi);
EXPORT_ENUM(direction);
EXPORT_ENUM(identity);
EXPORT_ENUM(rule_set);
EXPORT_ENUM(endpoint_id);
EXPORT_ENUM(endpoint_flag);
EXPORT_ENUM(policy_flag);
EXPORT_ENUM(action);
EXPORT_ENUM(context);
EXPORT_ENUM(verdict);
EXPORT_ENUM(scope);
EXPORT_ENUM(reason);
EXPORT_ENUM(connection_flag);
EXPORT_ENUM(flow_path);
EXPORT_ENUM(backend_set_id);
EXPORT_ENUM(backend_index);
EXPORT_ENUM(service_port);
EXPORT_ENUM(proxy_listener);
EXPORT_ENUM(mark);
EXPORT_ENUM(plugin_status);
EXPORT_ENUM(ask_flag);
EXPORT_ENUM(parsed);
EXPORT_ENUM(explanation);
EXPORT_ENUM(plugin_field);
EXPORT_ENUM(plugin_action);
EXPORT_ENUM(plugin_slot);
EXPORT_ENUM(plugin_context_flag);
EXPORT_ENUM(verdict_word);

EXPORT_STRUCT(endpoint);
EXPORT_STRUCT(policy_state);
EXPORT_STRUCT(connection_share);
EXPORT_STRUCT(known_key);
EXPORT_STRUCT(known_pattern);
EXPORT_STRUCT(known_address);
EXPORT_STRUCT(dns_name);
EXPORT_STRUCT(name_pattern);
EXPORT_STRUCT(named_key);
EXPORT_STRUCT(query_key);
EXPORT_STRUCT(query);
EXPORT_STRUCT(name_share);
EXPORT_STRUCT(network_key);
EXPORT_STRUCT(policy_key);
EXPORT_STRUCT(rule);
EXPORT_STRUCT(port_rule);
EXPORT_STRUCT(policy_entry);
EXPORT_STRUCT(port_key);
EXPORT_STRUCT(connection_key);
EXPORT_STRUCT(connection);
EXPORT_STRUCT(translation);
EXPORT_STRUCT(local_endpoint);
EXPORT_STRUCT(backend_set);
EXPORT_STRUCT(backend_key);
EXPORT_STRUCT(service_key);
EXPORT_STRUCT(service);
EXPORT_STRUCT(affinity_key);
EXPORT_STRUCT(affinity);
EXPORT_STRUCT(fragment_key);
EXPORT_STRUCT(fragment);
EXPORT_STRUCT(plugin_state);
EXPORT_STRUCT(verdict_key);
EXPORT_STRUCT(verdict_entry);
EXPORT_STRUCT(ask);
EXPORT_STRUCT(flow_record);
EXPORT_STRUCT(engine_state);
EXPORT_STRUCT(counter);
EXPORT_STRUCT(stage_switches);
EXPORT_STRUCT(plugin_context);
EXPORT_STRUCT(plugin_header);
EXPORT_STRUCT(plugin_result);
