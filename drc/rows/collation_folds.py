"""Groups of characters that MySQL's case-insensitive Unicode collations take for equal. Data.

Contents: an alphabet, and the groups of characters in the alphabet that are equal in at least one
of utf8mb4_general_ci, utf8mb4_unicode_ci, utf8mb4_unicode_520_ci and utf8mb4_0900_ai_ci. The
common table for all four merges a little more than each collation does, never less.

Not here: how a text is folded with the table (``collation.py``).

1. Over this alphabet the weight of a text is the sequence of the weights of the characters: no
   pair contracts, no character is ignored, and no two sequences of characters that differ after
   folding have the same sequence of weights. Characters for which that fails (``ß`` = ``ss``,
   ``æ``, ``½``, combining marks, controls) are left out.
2. The first character of a group stands for the group. Groups are disjoint; ASCII folds to upper
   case.

Derived from WEIGHT_STRING of MySQL 9.7.4 for every code point up to U+1FFFF, and checked against a
server by ``tests/integration/test_collation_server.py``.
"""

# Inclusive ranges of code points.
ALPHABET: tuple[tuple[int, int], ...] = (
    (0x0020, 0x007E),
    (0x00A0, 0x00AC),
    (0x00AE, 0x00BB),
    (0x00BF, 0x00C5),
    (0x00C7, 0x00DE),
    (0x00E0, 0x00E5),
    (0x00E7, 0x0131),
    (0x0134, 0x013E),
    (0x0141, 0x0151),
    (0x0154, 0x018C),
    (0x018E, 0x01BD),
    (0x01BF, 0x01C3),
    (0x01CD, 0x01E1),
    (0x01E4, 0x01F0),
    (0x01F4, 0x01FB),
    (0x01FE, 0x0237),
    (0x023A, 0x024F),
    (0x0370, 0x03CE),
    (0x03D0, 0x03D6),
    (0x03D8, 0x0482),
    (0x048A, 0x052F),
    (0x1E00, 0x1E99),
    (0x1E9B, 0x1E9D),
    (0x1E9F, 0x1EF9),
    (0x1EFC, 0x1EFF),
    (0x2010, 0x2024),
    (0x2027, 0x2029),
    (0x202F, 0x2032),
    (0x2035, 0x2035),
    (0x2038, 0x203B),
    (0x203D, 0x2046),
    (0x204A, 0x2056),
    (0x2058, 0x205F),
    (0x20A0, 0x20A7),
    (0x20A9, 0x20BF),
    (0x3000, 0x3005),
    (0x3007, 0x3029),
    (0x3030, 0x303B),
    (0x303D, 0x3098),
    (0x309B, 0x309E),
    (0x30A0, 0x30FE),
    (0x3400, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xFF01, 0xFF9D),
    (0xFFE0, 0xFFEE),
    (0x1F300, 0x1FAFF),
)

# Groups of two or more characters, as text. A long group goes on after a space, where the first
# character of the group is repeated.
GROUPS = """\
!！ "＂ #＃ $＄ %％ &＆ '＇ (（ )） *＊ +＋ ,， -－ .․． /／ 0〇０ 1¹〡１ 2²〢２ 3³〣３ 4〤４
5〥５ 6〦６ 7〧７ 8〨８ 9〩９ :： ;;； <＜ =＝ >＞ ?？ @＠
AaªÀÁÂÃÄÅàáâãäåĀāĂăĄąǍǎǞǟǠǡǺǻȀȁȂȃȦȧḀḁẠạẢảẤấẦầẨẩẪẫẬậẮắẰằẲẳẴẵẶặＡａ BbḂḃḄḅḆḇＢｂ
CcÇçĆćĈĉĊċČčḈḉＣｃ DdÐðĎďĐđḊḋḌḍḎḏḐḑḒḓＤｄ
EeÈÉÊËèéêëĒēĔĕĖėĘęĚěȄȅȆȇȨȩḔḕḖḗḘḙḚḛḜḝẸẹẺẻẼẽẾếỀềỂểỄễỆệＥｅ FfḞḟＦｆ GgĜĝĞğĠġĢģǦǧǴǵḠḡＧｇ
HhĤĥĦħȞȟḢḣḤḥḦḧḨḩḪḫẖＨｈ IiÌÍÎÏìíîïĨĩĪīĬĭĮįİıǏǐȈȉȊȋḬḭḮḯỈỉỊịＩｉ JjĴĵǰＪｊ KkĶķǨǩḰḱḲḳḴḵＫｋ
LlĹĺĻļĽľŁłḶḷḸḹḺḻḼḽＬｌ MmḾḿṀṁṂṃＭｍ NnÑñŃńŅņŇňǸǹṄṅṆṇṈṉṊṋＮｎ
OoºÒÓÔÕÖØòóôõöøŌōŎŏŐőƠơǑǒǪǫǬǭǾǿȌȍȎȏȪȫȬȭȮȯȰȱṌṍṎṏṐṑṒṓỌọỎỏỐốỒồỔổỖỗỘộỚớỜờỞởỠỡỢợＯｏ PpṔṕṖṗＰｐ
QqＱｑ RrŔŕŖŗŘřȐȑȒȓṘṙṚṛṜṝṞṟＲｒ SsŚśŜŝŞşŠšſȘșṠṡṢṣṤṥṦṧṨṩẛＳｓ TtŢţŤťȚțṪṫṬṭṮṯṰṱẗＴｔ
UuÙÚÛÜùúûüŨũŪūŬŭŮůŰűŲųƯưǓǔǕǖǗǘǙǚǛǜȔȕȖȗṲṳṴṵṶṷṸṹṺṻỤụỦủỨứỪừỬửỮữỰựＵｕ VvṼṽṾṿＶｖ
WwŴŵẀẁẂẃẄẅẆẇẈẉẘＷｗ XxẊẋẌẍＸｘ YyÝýÿŶŷŸȲȳẎẏẙỲỳỴỵỶỷỸỹＹｙ ZzŹźŻżŽžẐẑẒẓẔẕＺｚ [［ \\＼ ]］ ^＾ _＿
`｀ {｛ |｜ }｝ ~～ ¢￠ £￡ ¥￥ ¦￤ ¨΅ ¬￢ ¯￣ ´΄ µΜμ ·· Þþ Ŋŋ Ŧŧ ƀɃ Ƃƃ Ƅƅ Ƈƈ Ƌƌ Ǝǝ Ƒƒ ƕǶ Ƙƙ ƚȽ
ƞȠ Ƣƣ Ƥƥ Ƨƨ Ƭƭ Ƴƴ Ƶƶ ƷǮǯ Ƹƹ Ƽƽ ƿǷ Ǥǥ Ȝȝ Ȣȣ Ȥȥ Ȼȼ Ɂɂ Ɇɇ Ɉɉ Ɋɋ Ɍɍ Ɏɏ Ͱͱ Ͳͳ Ͷͷ ͺΊΐΙΪίιϊ ͻϽ ͼϾ ͽϿ Ϳϳ
ΆΑάα ΈΕέεϵ ΉΗήη ΌΟοό ΎΥΫΰυϋύϒϓϔ ΏΩωώ Ββϐ Γγ Δδ Ζζ Θθϑϴ Κκϰ Λλ Νν Ξξ Ππϖ Ρρϱ ΣςσϲϹ Ττ Φφϕ Χχ Ψψ
Ϙϙ Ϛϛ Ϝϝ Ϟϟ Ϡϡ Ϣϣ Ϥϥ Ϧϧ Ϩϩ Ϫϫ Ϭϭ Ϯϯ Ϸϸ Ϻϻ ЀЁЕеѐёӖӗ Ђђ ЃГгѓҐґ Єє Ѕѕ ІЇії Јј Љљ Њњ Ћћ ЌКкќ
ЍИиѝӢӣӤӥ ЎУуўӮӯӰӱӲӳ Џџ АаӐӑӒӓ Бб Вв Дд ЖжӁӂӜӝ ЗзӞӟ Йй Лл Мм Нн ОоӦӧ Пп Рр Сс Тт Фф Хх Цц ЧчӴӵ Шш
Щщ Ъъ ЫыӸӹ Ьь ЭэӬӭ Юю Яя Ѡѡ Ѣѣ Ѥѥ Ѧѧ Ѩѩ Ѫѫ Ѭѭ Ѯѯ Ѱѱ Ѳѳ ѴѵѶѷ Ѹѹ Ѻѻ Ѽѽ Ѿѿ Ҁҁ Ҋҋ Ҍҍ Ҏҏ Ғғ Ҕҕ Җҗ Ҙҙ
Ққ Ҝҝ Ҟҟ Ҡҡ Ңң Ҥҥ Ҧҧ Ҩҩ Ҫҫ Ҭҭ Үү Ұұ Ҳҳ Ҵҵ Ҷҷ Ҹҹ Һһ Ҽҽ Ҿҿ Ӏӏ Ӄӄ Ӆӆ Ӈӈ Ӊӊ Ӌӌ Ӎӎ Ӕӕ ӘәӚӛ Ӡӡ ӨөӪӫ Ӷӷ
Ӻӻ Ӽӽ Ӿӿ Ԁԁ Ԃԃ Ԅԅ Ԇԇ Ԉԉ Ԋԋ Ԍԍ Ԏԏ Ԑԑ Ԓԓ Ԕԕ Ԗԗ Ԙԙ Ԛԛ Ԝԝ Ԟԟ Ԡԡ Ԣԣ Ԥԥ Ԧԧ Ԩԩ Ԫԫ Ԭԭ Ԯԯ Ỽỽ Ỿỿ ‐‑ ₩￦
、､ 。｡ 「｢ 」｣ 〒〶 〱〲 〳〴 〸十 〹卄 〺卅 ぁあァアｧｱ ぃいィイｨｲ ぅうゔゥウヴｩｳ ぇえェエｪｴ
ぉおォオｫｵ かがゕカガヵｶ きぎキギｷ くぐクグｸ けげゖケゲヶｹ こごコゴｺ さざサザｻ しじシジｼ
すずスズｽ せぜセゼｾ そぞソゾｿ ただタダﾀ ちぢチヂﾁ っつづッツヅｯﾂ てでテデﾃ とどトドﾄ なナﾅ にニﾆ
ぬヌﾇ ねネﾈ のノﾉ はばぱハバパﾊ ひびぴヒビピﾋ ふぶぷフブプﾌ へべぺヘベペﾍ ほぼぽホボポﾎ まマﾏ
みミﾐ むムﾑ めメﾒ もモﾓ ゃやャヤｬﾔ ゅゆュユｭﾕ ょよョヨｮﾖ らラﾗ りリﾘ るルﾙ れレﾚ ろロﾛ
ゎわヮワヷﾜ ゐヰヸ ゑヱヹ をヲヺｦ んンﾝ ゝゞ ・･ ーｰ ヽヾ
"""

# Spaces, and pictographs: general_ci and unicode_ci take any two pictographs for equal.
SPACES = "\u0020\u00a0\u202f\u205f\u3000"
PICTOGRAPHS = (0x1F300, 0x1FAFF)

# Members that equal another character under utf8mb4_0900_as_cs, or have ambiguous weights there.
NOT_EXACT = (
    "\u0149\u037e\u0384\u0387\u202f\u3007\u3021\u3022\u3023\u3024\u3025\u3026\u3027\u3028\u3029"
)
