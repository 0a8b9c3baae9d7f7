"""Makes tests/reference/goldens_chat: chat templates of our own, in the style of each family's, and what transformers
renders from them over conversations of our own.

  make_chat_goldens.py [--out tests/reference/goldens_chat]

The test of chat templates (tests/unit/text/chat_template_test.cpp) renders the same and compares byte by byte. Needs
transformers 5 and jinja2.
"""

import argparse
import json
import pathlib

from transformers.utils.chat_template_utils import render_jinja_template

LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set turns = messages[1:] %}
{% else %}{% set system = none %}{% set turns = messages %}{% endif %}
{% for turn in turns %}
{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('User and assistant have to take turns.') }}
{% endif %}
{% set text = '<<SYS>>\\n' ~ system ~ '\\n<</SYS>>\\n\\n' ~ turn['content'] if loop.first and system is not none else turn['content'] %}
{% if turn['role'] == 'user' %}
{{ bos_token ~ '[INST] ' ~ text | trim ~ ' [/INST]' }}
{%- else -%}
{{ ' ' + text.strip() + ' ' + eos_token }}
{%- endif %}
{% endfor %}"""

LLAMA3 = """{%- set ns = namespace(system='', first=0) -%}
{%- if messages and messages[0].role == 'system' -%}
  {%- set ns.system = messages[0].content | trim -%}{%- set ns.first = 1 -%}
{%- endif -%}
{%- set day = date_string if date_string is defined else '26 Jul 2024' -%}
{%- macro head(role) -%}<|start_header_id|>{{ role }}<|end_header_id|>{{ '\\n\\n' }}{%- endmacro -%}
{{- bos_token ~ head('system') -}}
{%- if tools %}{{ 'Environment: ipython\\n' }}{% endif -%}
Today: {{ day }}{{ '\\n\\n' }}
{%- if tools -%}
Call one of these functions as {"name": ..., "parameters": ...}.
{% for tool in tools %}
{{- tool | tojson(indent=4) }}

{% endfor -%}
{%- endif -%}
{{- ns.system }}<|eot_id|>
{%- for message in messages[ns.first:] -%}
  {%- if message.tool_calls is defined -%}
    {%- if message.tool_calls | length != 1 -%}{{- raise_exception('One tool call at a time, please.') -}}{%- endif -%}
    {%- set call = message.tool_calls[0].function -%}
    {{- head('assistant') -}}
    {"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}<|eot_id|>
  {%- elif message.role in ['tool', 'ipython'] -%}
    {{- head('ipython') -}}
    {%- if message.content is mapping or (message.content is iterable and message.content is not string) -%}
      {{- message.content | tojson -}}
    {%- else -%}
      {{- message.content -}}
    {%- endif -%}<|eot_id|>
  {%- else -%}
    {{- head(message['role']) + message['content'] | trim }}<|eot_id|>
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- head('assistant') -}}{%- endif -%}"""

MISTRAL = """{{ bos_token }}{% set users = messages | selectattr('role', 'equalto', 'user') | list %}
{%- for message in messages %}
{%- if message.role == 'user' %}
{%- if tools is not none and message == users[-1] %}
{{- '[AVAILABLE_TOOLS] [' }}
{%- for tool in tools | map(attribute='function') %}
{{- '{"type": "function", "function": {' }}
{%- for key, value in tool.items() if key != 'return' %}
{{- '"' + key + '": ' + (('"' + value + '"') if value is string else value | tojson) }}{{ ', ' if not loop.last else '}}' }}
{%- endfor %}{{ ', ' if not loop.last else ']' }}
{%- endfor %}{{ '[/AVAILABLE_TOOLS]' }}
{%- endif %}{{ '[INST] ' + message.content + '[/INST]' }}
{%- elif message.tool_calls is defined and message.tool_calls is not none %}
{{- '[TOOL_CALLS] [' }}
{%- for call in message.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception('A tool call has an id of 9 characters.') }}{% endif %}
{{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' }}{{ ', ' if not loop.last }}
{%- endfor %}{{ ']' + eos_token }}
{%- elif message.role == 'tool' %}
{{- '[TOOL_RESULTS] {"content": ' + message.content | string + ', "call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
{%- elif message.role == 'assistant' %}{{ ' ' + message.content | trim + eos_token }}
{%- elif message.role != 'system' %}{{ raise_exception('Unknown role: ' + message.role) }}
{%- endif %}
{%- endfor %}"""

QWEN = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- '# Tools\\n\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' ~ tool | tojson }}{%- endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=messages | length - 1, searching=true) %}
{%- for message in messages[::-1] %}
    {%- set index = messages | length - 1 - loop.index0 %}
    {%- if ns.searching and message.role == 'user' and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}{%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set reasoning = message.reasoning_content if message.reasoning_content is string else '' %}
        {%- if '</think>' in content and not reasoning %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant' }}
        {%- if loop.index0 > ns.last and reasoning %}{{- '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n' }}{% endif %}
        {{- '\\n' + content }}
        {%- for call in message.tool_calls or [] %}
            {%- if call.function %}{%- set call = call.function %}{%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}{{- call.name }}{{- '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}{{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or loop.previtem.role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' }}{{- content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('There is no system role.') }}{% endif %}
{% for message in messages %}
{% if loop.index0 is odd and message['role'] != 'assistant' or loop.index0 is even and message['role'] != 'user' %}
{{ raise_exception('Roles have to alternate: user, assistant, user, ...') }}
{% endif %}
<start_of_turn>{{ {'assistant': 'model'}.get(message['role'], message['role']) }}
{% if message.content is string %}
{{ message.content | trim }}<end_of_turn>
{% else %}
{% for part in message.content %}{{ '<image>' if part.type == 'image' else part.text | trim }}{% endfor %}<end_of_turn>
{% endif %}
{% endfor %}
{%- if add_generation_prompt %}
<start_of_turn>model
{% endif %}"""

PHI3 = """{% for message in messages %}{% if message['content'] %}{{ '<|' + message['role'] + '|>' + '\\n' + message['content'] + '<|end|>' + '\\n' }}{% endif %}{% endfor %}{{ '<|assistant|>\\n' if add_generation_prompt else eos_token }}"""

FALCON = """{% for message in messages %}
    {%- if not loop.first %}{{ '\\n' }}{% endif %}
    {%- if message.role == 'system' %}
        {{- message.content | string }}
    {%- else %}
        {{- message.role | capitalize }}: {{ message.content | replace('\\r\\n', '\\n') | replace('\\n\\n', '\\n') }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '\\nAssistant:' }}{% endif %}"""

OLMO2 = """{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|assistant|>\\n' }}{% generation %}{{ message['content'] }}{% if not loop.last %}{{ eos_token + '\\n' }}{% else %}{{ eos_token }}{% endif %}{% endgeneration %}{% else %}{{ '<|%s|>\\n%s\\n' % (message['role'], message['content']) }}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}{% endfor %}
"""

ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
"""

CHATML = """{#- A default system message, -#}
{%- if not messages or messages[0].role != 'system' -%}
    {%- set messages = [{'role': 'system', 'content': 'You help.'}] + messages -%}
{%- endif -%}
{% for message in messages %}<|im_start|>{{ message.role }}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

DEEPSEEK = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}
{% set ns = namespace(system='', first=true, after_tool=false) %}
{%- for message in messages if message['role'] == 'system' %}
{%- set ns.system = ns.system + ('' if ns.first else '\\n\\n') + message['content'] %}{% set ns.first = false %}
{%- endfor %}{{ bos_token }}{{ ns.system }}
{%- for message in messages %}
{%- if message['role'] == 'system' %}{% continue %}{% endif %}
{%- if message['role'] == 'user' %}{% set ns.after_tool = false %}{{ '<|User|>' + message['content'] }}
{%- elif message['role'] == 'assistant' and message['tool_calls'] %}
{{- '<|Assistant|>' }}
{%- for call in message['tool_calls'] %}
{{- '<|call|>' ~ call['type'] ~ '<|sep|>' ~ call['function']['name'] ~ '\\n```json\\n' ~ call['function']['arguments'] ~ '\\n```' }}
{%- endfor %}{{ eos_token }}
{%- elif message['role'] == 'assistant' %}
{%- set content = message['content'].split('</think>') | last %}
{{- ('' if ns.after_tool else '<|Assistant|>') + content + eos_token }}{% set ns.after_tool = false %}
{%- elif message['role'] == 'tool' %}{% set ns.after_tool = true %}{{ '<|result|>' + message['content'] + '<|/result|>' }}
{%- else %}{% break %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt and not ns.after_tool %}{{ '<|Assistant|>' }}{% endif %}"""

TEMPLATES = {
    "llama2": LLAMA2, "llama3": LLAMA3, "mistral": MISTRAL, "qwen": QWEN, "gemma": GEMMA, "phi3": PHI3,
    "falcon": FALCON, "olmo2": OLMO2, "zephyr": ZEPHYR, "chatml": CHATML, "deepseek": DEEPSEEK,
}

TOOLS = [
    {"type": "function", "function": {
        "name": "tide", "description": "The tide at a \"port\", <in> metres.",
        "parameters": {"type": "object", "properties": {
            "port": {"type": "string", "description": "A port, such as Malmö"},
            "hours": {"type": ["integer", "null"], "default": 12}, "datum": {"enum": [0.5, 1e-05, True]}},
            "required": ["port"]}, "return": {"type": "number"}}},
    {"type": "function", "function": {
        "name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}},
]
CALL = {"id": "call12345", "type": "function",
        "function": {"name": "tide", "arguments": {"port": "Malmö", "hours": 3, "x": [None, 1.0, {}]}}}


def say(role, content, **more):
    return {"role": role, "content": content, **more}


CONVERSATIONS = {
    "one": [say("user", "How high is the tide?")],
    "system": [say("system", " You know the sea.\n"), say("user", "  Is it <deep>?\r\n\r\n\"Yes\" & 'no' 🐟  ")],
    "turns": [say("user", "One\n"), say("assistant", " Two "), say("user", "Three"), say("assistant", "Four\n"),
              say("user", "Five")],
    "answered": [say("system", "Short."), say("user", "Ja?"), say("assistant", "<think>\nhm\n</think>\n\nNej.")],
    "reasoned": [say("user", "Why?"), say("assistant", "So.", reasoning="\nas it is\n")],
    "tools": [say("system", "S"), say("user", "Tide in Malmö?"), say("assistant", "", tool_calls=[CALL]),
              say("tool", "{\"m\": 0.4}", tool_call_id="call12345", name="tide"), say("assistant", "0.4 m"),
              say("user", "Thanks")],
    "twice": [say("user", "?"), say("assistant", None, tool_calls=[CALL, CALL]),
              say("tool", "a", tool_call_id="call12345"), say("tool", "b", tool_call_id="call12345")],
    "wrong": [say("user", "a"), say("user", "b"), say("critic", "c")],
    "parts": [say("user", [{"type": "image"}, {"type": "text", "text": " What is this? "}])],
}
SETTINGS = {
    "plain": {},
    "prompt": {"add_generation_prompt": True, "enable_thinking": False, "date_string": "1 May 2025"},
    "tools": {"add_generation_prompt": True, "tools": TOOLS},
}


def render(template, context):
    values = dict(context)
    messages = values.pop("messages")
    tools = values.pop("tools", None)
    try:
        rendered, _ = render_jinja_template([messages], tools=tools, chat_template=template, **values)
        return {"text": rendered[0]}
    except Exception as error:  # what it is follows: a template's own refusal, or one of Python's
        refused = type(error).__name__ == "TemplateError"
        return {"error": str(error) if refused else ""}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/reference/goldens_chat"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    common = {"bos_token": "<s>", "eos_token": "</s>"}
    shared = {"conversations": CONVERSATIONS, "settings": {k: {**common, **v} for k, v in SETTINGS.items()}}
    (out / "conversations.json").write_text(json.dumps(shared, ensure_ascii=False, indent=1) + "\n")
    for name, template in TEMPLATES.items():
        cases = []
        for conversation, messages in CONVERSATIONS.items():
            for setting, values in shared["settings"].items():
                if setting == "tools" and conversation not in ("one", "tools", "twice"):
                    continue
                answer = render(template, {"messages": messages, **values})
                cases.append({"conversation": conversation, "setting": setting, **answer})
        golden = {"template": template, "cases": cases}
        (out / f"{name}.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
