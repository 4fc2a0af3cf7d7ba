"""The chat format, shared by training, evaluation and the shipped template."""

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

# No hidden system prompt: what the client did not say is not there.
TEMPLATE = """{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['content'] is string %}
{{- message['content'] }}
{%- else %}
{%- for part in message['content'] %}
{%- if part['type'] == 'text' %}{{- part['text'] }}{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def render(messages: list[dict], add_generation_prompt: bool = False) -> str:
    """What TEMPLATE renders; the evaluation asserts that both agree."""
    text = "".join(f"{IM_START}{m['role']}\n{m['content']}{IM_END}\n" for m in messages)
    return text + (f"{IM_START}assistant\n" if add_generation_prompt else "")


def pieces(messages: list[dict]):
    """The rendered text in pieces, each with whether the model has to learn to write it."""
    for m in messages:
        if m["role"] == "assistant":
            yield f"{IM_START}assistant\n", False
            yield f"{m['content']}{IM_END}", True
            yield "\n", False
        else:
            yield f"{IM_START}{m['role']}\n{m['content']}{IM_END}\n", False
