"""What the pages say, in English and Chinese."""

from typing import Literal, get_args

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

PAGE = {
    "review": ("Review", "审片"),
    "batches": ("Batches", "批次"),
    "batches_lead": ("Dubs that wait for people. Nothing goes out that nobody approved.", "等待人工审核的配音视频。未经批准的不会发布。"),
    "no_batches": ("There is nothing to review yet.", "目前没有可审的内容。"),
    "no_prefix": (
        "This server was not told where review material lies: set DUBMILL_REVIEW to one or several folders or s3:// prefixes.",
        "服务器尚未配置审片材料的位置：请将 DUBMILL_REVIEW 设为一个或多个文件夹或 s3:// 前缀。",
    ),
    "open": ("open", "待审"),
    "approve": ("Approve", "通过"),
    "reject": ("Reject", "拒绝"),
    "redo": ("Redo", "重做"),
    "approved": ("approved", "已通过"),
    "rejected": ("rejected", "已拒绝"),
    "redone": ("to redo", "待重做"),
    "done_of": ("{done} of {all} decided", "已审 {done} / {all}"),
    "messages": ("{count} messages", "{count} 条消息"),
    "riskiest": ("highest risk {risk}", "最高风险 {risk}"),
    "held_count": ("{count} held by the gate", "{count} 个被门限拦下"),
    "risk": ("Risk", "风险"),
    "items": ("Dubs", "视频"),
    "list": ("List", "列表"),
    "item": ("Dub", "视频"),
    "room": ("Room", "讨论"),
    "source": ("Source", "原片"),
    "dub": ("Dub", "配音"),
    "play": ("Play", "播放"),
    "pause": ("Pause", "暂停"),
    "frame_back": ("One frame back", "后退一帧"),
    "frame_on": ("One frame on", "前进一帧"),
    "next_moment": ("Next moment", "下一个疑点"),
    "moments": ("Moments to look at", "需要留意的片段"),
    "no_moments": ("Nothing stands out.", "没有特别需要留意的片段。"),
    "confidence": ("confidence {share}", "可信度 {share}"),
    "passed_through": ("The source shows through", "直接显示原片的片段"),
    "metrics": ("Metrics", "指标"),
    "metric": ("Metric", "指标"),
    "value": ("Dub", "配音"),
    "real_video": ("Real video", "真实视频"),
    "meaning": ("What it says", "含义"),
    "absent": ("not measured: {reason}", "未测量：{reason}"),
    "made_with": ("Made with", "生成设置"),
    "models": ("Models", "模型"),
    "settings": ("Settings", "设置"),
    "verdict": ("Verdict", "裁定"),
    "of_former_dub": ("of an earlier dub", "针对之前的版本"),
    "note": ("Note (optional)", "备注（可不填）"),
    "redo_title": ("Try again with other settings", "用其他设置重做"),
    "redo_lead": ("Change what should be different; the rest stays as it was.", "只改需要不同的设置，其余保持不变。"),
    "redo_nothing": ("Change at least one setting.", "请至少修改一项设置。"),
    "redo_send": ("Ask for a redo", "提交重做"),
    "cancel": ("Cancel", "取消"),
    "gate_passed": ("Gate passed", "门限通过"),
    "gate_held": ("Held by the gate", "被门限拦下"),
    "not_approvable": ("The gate holds it: it can be rejected or redone.", "已被门限拦下：只能拒绝或重做。"),
    "run_held": ("The gate holds the whole run", "整个批次被门限拦下"),
    "settled": ("done", "已执行"),
    "given": ("{verdict} by {author}", "{author}：{verdict}"),
    "write": ("Write to the room", "写给大家"),
    "send": ("Send", "发送"),
    "sending": ("sending …", "发送中……"),
    "unsent": ("not sent: {reason}", "未发送：{reason}"),
    "try_again": ("Try again", "重试"),
    "discard": ("Discard", "丢弃"),
    "earlier": ("Earlier messages", "更早的消息"),
    "no_messages": ("Nobody has written yet.", "还没有人发言。"),
    "read_only": (
        "You may read here. To write and decide, you need a role that may edit the runs of bulk_dubbing.",
        "您只能查看。发言和裁定需要可编辑 bulk_dubbing 运行的角色。",
    ),
    "connected": ("live", "实时"),
    "reconnecting": ("connecting again …", "正在重新连接……"),
    "signed_out": ("Your login has ended. Load the page again; what is unsent is kept.", "登录已过期。请刷新页面，未发送的消息会保留。"),
    "too_long": ("{count} characters too many", "超出 {count} 个字符"),
    "keys": ("Keys", "快捷键"),
    "keys_jk": ("next, previous dub", "下一个、上一个视频"),
    "keys_space": ("play or pause", "播放或暂停"),
    "keys_arrows": ("one frame back or on (with shift: a second)", "后退或前进一帧（按住 Shift：一秒）"),
    "keys_m": ("next moment to look at", "下一个疑点"),
    "keys_ard": ("approve, reject, redo", "通过、拒绝、重做"),
    "keys_slash": ("write a message", "写消息"),
    "keys_help": ("show or hide this", "显示或隐藏本说明"),
    "keys_escape": ("leave a form", "离开表单"),
    "close": ("Close", "关闭"),
    "mouth_of": ("Mouth opening: {video}", "嘴部开合：{video}"),
    "sound": ("Sound", "声音"),
    "unsure": ("Unsure seconds", "把握不大的秒"),
    "frame": ("frame {number}", "第 {number} 帧"),
    "timeline": ("Position in the video", "播放位置"),
    "no_video": ("The video is not there any more.", "视频文件已不存在。"),
    "no_item": ("This dub's material is not there yet.", "该视频的审片材料尚未生成。"),
    "not_listed": ("This dub is not in this batch any more.", "该视频已不在此批次中。"),
    "choose": ("Choose a dub.", "请选择一个视频。"),
    "page_of": ("Page {page} of {pages}", "第 {page} / {pages} 页"),
    "before": ("Back", "上一页"),
    "after": ("On", "下一页"),
    "said_approve": ("Approved.", "已通过。"),
    "said_reject": ("Rejected.", "已拒绝。"),
    "said_redo": ("Asked for a redo.", "已提交重做。"),
    "not_saved": ("Not saved: {reason}", "未保存：{reason}"),
    "network": ("the server does not answer", "服务器无响应"),
    "not_found": ("There is no such page.", "没有这个页面。"),
    "not_allowed": ("You may not see this: it takes a role that may see the runs of bulk_dubbing.", "您无权查看此页：需要能查看 bulk_dubbing 运行的角色。"),
    "went_wrong": ("This cannot be shown just now.", "暂时无法显示。"),
    "all_batches": ("All batches", "全部批次"),
    "unreadable": ("This batch cannot be read.", "无法读取该批次。"),
    "at": ("at {time}", "{time}"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "other_language": ("中文", "English"),
}

SETTINGS = {
    "references": (("Reference pictures", ""), ("参考图数量", "渲染用的参考图：25、10、5 或 3，越少越快，越多越像")),
    "smoothing": (("Smoothing", ""), ("平滑", "人脸框和关键点随时间的平滑；抖动最容易被看出来")),
    "sharpening": (("Sharpening", ""), ("锐化", "生成人脸的锐化程度；0 为不锐化")),
    "rest_in_silence": (("Rest in silence", ""), ("静音时闭嘴", "无人说话时嘴部静止")),
    "hold_to_head": (("Hold to the head", ""), ("固定在头部", "嘴和下巴跟随头部位置")),
    "match_colour": (("Match colour", ""), ("颜色匹配", "让新脸的颜色与原片接缝处一致")),
    "keep_covered": (("Keep what is covered", ""), ("保留遮挡", "手或话筒遮住嘴时显示原片")),
    "fade_from_yaw_deg": (("Fade from yaw (°)", ""), ("开始淡出的转头角度（°）", "头转到这个角度，配音开始淡出")),
    "gone_at_yaw_deg": (("Gone at yaw (°)", ""), ("完全淡出的转头角度（°）", "头转到这个角度，只显示原片")),
    "min_face_px": (("Smallest face (px)", ""), ("最小人脸（像素）", "人脸短边小于此值时显示原片")),
    "face": (("Face", "largest, speaking, left, right, or a number from 0, left to right"), ("人脸", "最大、正在说话、左、右，或从左到右的编号（从 0 起）")),
    "loop": (("When the speech is longer", ""), ("语音比视频长时", "来回播放，或从头开始")),
    "fps": (("Frame rate", ""), ("帧率", "输出的帧率：与原片相同，或 25")),
    "crf": (("Coding quality", ""), ("编码质量（crf）", "越小越清晰，文件越大")),
}

METRICS = {
    "confidence": (("how sure the dub is to look right, mean of its seconds; higher is better"), ("配音可信度，各秒的平均值，越高越好")),
    "least_confidence": (("the same of its least sure second; higher is better"), ("最不可信的一秒的可信度，越高越好")),
    "source_shown_share": (("share of the time in which the source is shown undubbed; lower is better"), ("直接显示原片的时间占比，越低越好")),
    "psnr": (("likeness of pixels in dB; higher is better"), ("像素相似度（dB），越高越好")),
    "ssim": (("likeness of structure, up to 1; higher is better"), ("结构相似度，最大为 1，越高越好")),
    "lpips": (("distance as people would judge it; lower is better"), ("感知距离，越低越好")),
    "fid": (("distance of all faces from real ones; lower is better"), ("与真实人脸总体的距离，越低越好")),
    "lmd": (("distance of face points in shares of the face; lower is better"), ("人脸关键点距离（占脸的比例），越低越好")),
    "lip_lmd": (("distance of lip points in shares of the face; lower is better"), ("唇部关键点距离（占脸的比例），越低越好")),
    "csim": (("likeness of identity, up to 1; higher is better"), ("身份相似度，最大为 1，越高越好")),
    "articulation": (
        ("spread of the lip opening over the real one; 1 is best, below it the mouth mumbles"),
        ("开合幅度与真实嘴部之比；1 最好，小于 1 显得含糊"),
    ),
    "closure_precision": (("share of closed lips that are closed at the right time; higher is better"), ("闭嘴时机准确率，越高越好")),
    "closure_recall": (("share of real closures that are met, as for p, b and m; higher is better"), ("真实闭嘴（如 p、b、m）被还原的比例，越高越好")),
    "leak": (("how far the lips follow the source's own speech; nearest to 0 is best"), ("嘴部跟随原片说话的程度，越接近 0 越好")),
    "silence_motion": (("movement of the lips where nobody speaks; lower is better"), ("无人说话时嘴部的运动，越低越好")),
    "jitter": (("restlessness of the mouth from frame to frame; lower is better"), ("嘴部逐帧抖动，越低越好")),
    "mouth_sharpness": (("detail inside the mouth over the real one's; 1 is best"), ("口腔细节与真实之比；1 最好")),
    "seam": (("gradient across the mask's edge over that inside; 1 is best"), ("遮罩边缘与内部梯度之比；1 最好")),
    "silence_opening": (("how far the lips stay apart where nobody speaks; lower is better"), ("无人说话时双唇张开的程度，越低越好")),
    "sync_confidence": (("confidence of SyncNet that lips and speech belong together; higher is better"), ("SyncNet 的音画同步置信度，越高越好")),
    "sync_distance": (("SyncNet's distance of lips and speech; lower is better"), ("SyncNet 的音画距离，越低越好")),
    "sync_offset": (("frames by which the sound comes after the picture; nearest to 0 is best"), ("声音落后画面的帧数，越接近 0 越好")),
    "lip_speech_correlation": (("how far lip motion follows loudness of speech; compare with the real video"), ("唇动与语音响度的相关性，请与真实视频比较")),
}

REASONS = {
    "no-face": ("no face", "没有人脸"),
    "turned-away": ("turned away", "转头"),
    "too-small": ("face too small", "人脸太小"),
    "covered": ("mouth covered", "嘴被遮住"),
    "not-spoken": ("nobody speaks", "无人说话"),
    **{
        said: (said, chinese)
        for said, chinese in (  # the clauses of a dub's own confidence
            ("the head is turned away", "头部转开"),
            ("the face is small", "人脸太小"),
            ("something is before the mouth", "嘴前有遮挡"),
            ("the face was not found and its place is guessed", "未找到人脸，位置为推测"),
            ("the face moves abruptly", "人脸突然移动"),
            ("the new mouth does what this person's never does", "新嘴型超出此人的习惯范围"),
            ("the source is shown", "显示的是原片"),
        )
    },
}


def page_words(language: Language) -> dict[str, str]:
    """All that the pages say."""
    return {name: pair[_column(language)] for name, pair in PAGE.items()}


def setting_words(name: str, language: Language) -> tuple[str, str]:
    """What a setting is called, and what it means; the second is empty where the setting's own description says it."""
    return SETTINGS[name][_column(language)]


def metric_meaning(name: str, language: Language) -> str:
    """What a metric says; empty where it is not known by its name."""
    return METRICS[name][_column(language)] if name in METRICS else ""


def reason_words(reason: str, language: Language) -> str:
    """Why the source shows through, or why a moment is to be looked at; a reason that is no word of ours is said as it is."""
    return REASONS[reason][_column(language)] if reason in REASONS else reason


def preferred(header: str) -> Language:
    """The language that a browser's Accept-Language asks for first among ours; English where it asks for neither."""
    wishes = [_wish(part) for part in header.split(",")[:20]]
    ours = [(share, language) for name, share in wishes for language in LANGUAGES if name.partition("-")[0] == language and share > 0]
    return max(ours, key=lambda wish: wish[0])[1] if ours else "en"


def _wish(part: str) -> tuple[str, float]:
    name, _, share = part.strip().lower().partition(";q=")
    try:
        return name, float(share) if share else 1.0
    except ValueError:
        return name, 0.0


def _column(language: Language) -> int:
    return LANGUAGES.index(language)
