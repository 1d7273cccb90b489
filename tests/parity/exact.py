"""An exact fp64 reference: transformers' Phi-3 with its fp32 islands replaced.

transformers computes RMSNorm, cos/sin and the eager softmax in fp32 whatever the dtype of the model, which moves the loss
of a tiny fp64 model by 1e-8. install() puts fp64 versions in their places; load the model with
attn_implementation="eager" after it. remove() puts the library's own back.
"""
import torch
from transformers.models.phi3 import modeling_phi3 as phi3

LIBRARY = (phi3.Phi3RMSNorm.forward, phi3.Phi3RotaryEmbedding.forward, phi3.eager_attention_forward)


def norm(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def rotary(self, x, position_ids):
    rope = self.config.rope_parameters
    dim = 2 * self.inv_freq.numel()
    inverse = 1.0 / rope["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    if rope["rope_type"] == "longrope":
        # one table for the whole batch, by its longest position
        long = position_ids.max() + 1 > self.config.original_max_position_embeddings
        inverse = inverse / torch.tensor(rope["long_factor" if long else "short_factor"], dtype=torch.float64)
    angle = position_ids[..., None].double() * inverse
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos() * self.attention_scaling, angle.sin() * self.attention_scaling


def attention(module, q, k, v, mask, scaling, dropout=0.0, **unused):
    k, v = (phi3.repeat_kv(t, module.num_key_value_groups) for t in (k, v))
    scores = q @ k.transpose(2, 3) * scaling + (0 if mask is None else mask)
    return (scores.softmax(-1) @ v).transpose(1, 2).contiguous(), None


def install():
    phi3.Phi3RMSNorm.forward, phi3.Phi3RotaryEmbedding.forward = norm, rotary
    phi3.eager_attention_forward = attention


def remove():
    phi3.Phi3RMSNorm.forward, phi3.Phi3RotaryEmbedding.forward, phi3.eager_attention_forward = LIBRARY
