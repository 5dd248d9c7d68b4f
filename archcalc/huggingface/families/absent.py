"""Types of models that transformers 5.24 knows and no table here does, by the feature that they need."""

from __future__ import annotations

_EXPERTS = "mixtures of experts of this kind are"
_RECURRENT = "recurrent layers are"
_ENCODERS = "bidirectional encoders are"
_PAIRS = "encoder-decoder models are"

_TYPES: dict[str, str] = {
    _EXPERTS: """
        nllb-moe qwen3_omni_moe switch_transformers
    """,
    "hyper-connections, and keys that stand for several positions, are": "deepseek_v4",
    "experts of images among those of text are": "ernie4_5_vl_moe",
    "mixtures of attention heads are": "jetmoe",
    "experts that are vectors, and masks that values make, are": "doge",
    "convolutions of queries and keys, and routers with MLPs, are": "zaya",
    "streams that are scaled by their depth are": "beam",
    "attention to blocks that an indexer chooses is": "minimax_m3_vl minimax_m3_vl_text",
    "norms with gates, and queries of two latents, are": "axk2",
    "latents that are scaled are": "dots3_note dots3_note_text",
    "hyper-connections are": "hy_v4",
    "latents that layers share are": "mistral_large4 mistral_large4_text",
    "scores of relative positions, and convolutions of keys and values, are": """
        inkling2_loop_text inkling2_text inkling_text
    """,
    "embeddings of several tokens together, and gates of the stream, are": "qwen4_exp qwen4_exp_text",
    _RECURRENT: "recurrent_gemma rwkv xlstm",
    "Mamba with several heads is": "zamba",
    "differential attention is": "diffllama",
    "layers that run several times are": "dory hrm_text",
    "relative positions are": "xlnet transfo-xl",
    "hashed attention is": "reformer",
    "latent patches of bytes are": "blt",
    "residual streams side by side (AltUp) are": "gemma3n gemma3n_text",
    "models that read what another one made are": "gemma4_assistant gemma4_unified_assistant",
    "cross-attention is": "mllama mllama_text_model git trocr musicgen musicgen_melody moshi whisper",
    _ENCODERS: """
        albert bert bert-generation big_bird camembert canine convbert data2vec-text deberta deberta-v2 distilbert
        electra ernie esm eurobert flaubert fnet funnel ibert layoutlm layoutlmv2 layoutlmv3 lilt longformer luke
        lxmert megatron-bert mobilebert modernbert mpnet mra nomic_bert nystromformer perceiver rembert roberta
        roberta-prelayernorm roc_bert roformer splinter squeezebert tapas visual_bert xlm xlm-roberta xlm-roberta-xl
        xmod yoso cpmant
    """,
    _PAIRS: """
        bart bigbird_pegasus blenderbot blenderbot-small encoder-decoder fsmt led longt5 m2m_100 marian mbart mt5 mvp
        pegasus pegasus_x plbart pop2piano prophetnet rag seamless_m4t seamless_m4t_v2 speech_to_text speech-encoder-
        decoder t5 t5gemma t5gemma2 udop umt5 vision-encoder-decoder
    """,
    "vision encoders are": """
        align altclip beit blip blip-2 bridgetower chinese_clip clip clipseg convnext convnextv2 deit dinov2
        dinov3_vit flava glm46v glm4v glm4v_text glm_ocr grounding-dino groupvit idefics imagegpt
        instructblip kosmos-2 metaclip_2 owlv2 owlvit pixtral resnet sam sam2 siglip siglip2 swin swinv2 tipsv2 vilt
        vit vit_mae yolos segformer molmo2 florence2 chameleon shieldgemma2
    """,
    "audio encoders are": "clap encodec hubert parakeet_ctc wav2vec2 wav2vec2-bert wavlm",
}

FEATURES: dict[str, str] = {name: feature for feature, names in _TYPES.items() for name in names.split()}
"""The feature of each such type, with its verb."""
