"""The words of the small world, by kind. All lists are fixed: their order is part of the seed."""

NAMES = """Ana Ben Carla David Emma Felix Grace Hugo Ida Jonas Kira Leo Mia Nora Oscar Paula Quinn Rosa Sam Tara
Uma Victor Wendy Xenia Yusuf Zoe Alice Bob Clara Daniel Elena Frank Greta Henry Iris Jack Kate Lucas Maria Noah
Olga Peter Rita Simon Tom Vera Walter Anna Boris Cora Dora Erik Fiona Gina Hanna Igor Julia Karl Lena Marco Nina
Otto Petra Ralf Sara Theo Lily Max Mina Omar Pia Ravi Sofia Tim Ella Ivan June Kim Luis Adam""".split()

ANIMALS = """cat dog fox bear lion tiger horse cow pig sheep goat duck hen frog owl mouse rabbit wolf deer whale
shark eagle parrot snake turtle monkey elephant giraffe zebra camel donkey bee ant spider crow swan goose otter
badger hedgehog squirrel penguin dolphin seal crab lizard sparrow kitten puppy pony""".split()
FRUITS = """apple banana cherry grape lemon lime mango melon orange peach pear plum kiwi fig apricot strawberry
raspberry blueberry pineapple papaya coconut""".split()
VEGETABLES = """carrot potato onion tomato cabbage spinach pepper bean pea leek radish pumpkin cucumber broccoli
celery turnip beetroot garlic""".split()
COLOURS = "red blue green yellow orange purple pink brown black white grey violet gold silver".split()
TOOLS = "hammer saw drill wrench screwdriver pliers axe shovel rake chisel ladder knife".split()
FURNITURE = "table chair bed sofa desk shelf lamp cupboard bench stool wardrobe drawer".split()
CLOTHES = "shirt coat hat scarf shoe sock glove jacket dress skirt sweater boot belt cap".split()
INSTRUMENTS = "piano guitar violin flute drum trumpet harp cello clarinet organ".split()
SPORTS = "football tennis swimming running cycling rowing hockey golf boxing skiing chess volleyball".split()
DRINKS = "water tea coffee milk juice lemonade cocoa soda".split()
FOODS = "bread cheese soup rice pasta salad cake pizza honey butter egg sandwich pancake cookie".split()
FLOWERS = "rose tulip daisy lily sunflower violet orchid poppy daffodil lavender".split()
TREES = "oak pine birch maple willow beech elm ash fir cedar".split()
VEHICLES = "car bus train bicycle boat plane truck ship tram taxi van tractor".split()
JOBS = """baker teacher doctor farmer sailor painter singer writer builder driver cook nurse gardener tailor
pilot fisherman librarian carpenter miller clockmaker""".split()
BODY = "head hand foot arm leg eye ear nose mouth knee finger toe neck shoulder".split()
CITIES = "Paris London Rome Berlin Madrid Vienna Tokyo Cairo Lima Oslo Athens Lisbon Dublin Prague Warsaw".split()
METALS = "iron gold silver copper tin zinc lead aluminium".split()
SHAPES = "circle square triangle rectangle oval star".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = """January February March April May June July August September October November December""".split()
SEASONS = "spring summer autumn winter".split()
PLANETS = "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split()
OBJECTS = """lantern key map book clock mirror kite basket boat bell ring letter coin candle blanket drum ladder
umbrella bottle pencil shell stone box bag cup spoon hat coat rope feather wheel whistle telescope balloon ball
violin painting compass teapot bicycle button ribbon""".split()
PLACES = """forest village river mountain lake garden harbour island castle meadow market valley library barn
lighthouse bakery school bridge hill beach town farm cave tower desert""".split()
ADJECTIVES = """small old brave quiet clever kind happy curious gentle shy proud tired hungry young careful
cheerful patient honest lazy strong""".split()
NUMBER_WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty""".split()

CAPITALS = dict(pair.replace("_", " ").split(":") for pair in """France:Paris Germany:Berlin Italy:Rome Spain:Madrid
Portugal:Lisbon Austria:Vienna Switzerland:Bern Belgium:Brussels Poland:Warsaw Norway:Oslo Sweden:Stockholm
Denmark:Copenhagen Finland:Helsinki Greece:Athens Hungary:Budapest Ireland:Dublin Japan:Tokyo China:Beijing
India:New_Delhi Egypt:Cairo Kenya:Nairobi Peru:Lima Chile:Santiago Cuba:Havana Canada:Ottawa Brazil:Brasilia
Argentina:Buenos_Aires Russia:Moscow Turkey:Ankara Iran:Tehran Iraq:Baghdad Thailand:Bangkok Vietnam:Hanoi
Australia:Canberra Iceland:Reykjavik Romania:Bucharest Bulgaria:Sofia Croatia:Zagreb Ukraine:Kyiv
Morocco:Rabat Ghana:Accra England:London Scotland:Edinburgh Colombia:Bogota""".split())

SOUNDS = dict(pair.split(":") for pair in """cat:meow dog:woof cow:moo sheep:baa duck:quack pig:oink horse:neigh
lion:roar owl:hoot frog:ribbit bee:buzz hen:cluck mouse:squeak wolf:howl snake:hiss goat:maa crow:caw
donkey:hee-haw bear:growl goose:honk""".split())

OPPOSITES = [tuple(pair.split(":")) for pair in """hot:cold big:small up:down left:right day:night happy:sad
fast:slow open:closed light:dark old:young high:low long:short full:empty hard:soft wet:dry rich:poor good:bad
true:false early:late near:far clean:dirty loud:quiet strong:weak thick:thin begin:end yes:no in:out on:off
first:last always:never buy:sell push:pull love:hate win:lose black:white heavy:light sweet:sour north:south
east:west easy:difficult front:back inside:outside question:answer give:take wide:narrow deep:shallow
cheap:expensive brave:afraid friend:enemy alive:dead over:under before:after same:different asleep:awake""".split()]

YOUNG = dict(pair.split(":") for pair in """dog:puppy cat:kitten cow:calf horse:foal sheep:lamb duck:duckling
pig:piglet hen:chick goat:kid bear:cub lion:cub goose:gosling swan:cygnet frog:tadpole deer:fawn""".split())
LEGS = {"dog": 4, "cat": 4, "hen": 2, "duck": 2, "spider": 8, "bee": 6, "ant": 6, "horse": 4, "cow": 4, "snake": 0,
        "sheep": 4, "goat": 4, "owl": 2, "lion": 4, "bear": 4, "penguin": 2, "crab": 10, "frog": 4, "fish": 0}
COLOUR_OF = dict(pair.split(":") for pair in """snow:white grass:green blood:red coal:black milk:white
banana:yellow lemon:yellow strawberry:red cherry:red carrot:orange pumpkin:orange cucumber:green spinach:green
chocolate:brown night:black sky:blue sea:blue leaf:green frog:green crow:black swan:white tomato:red
broccoli:green lime:green sun:yellow elephant:grey flamingo:pink""".split())
NUMBER_FACTS = [
    ("days are in a week", "There are 7 days in a week.", "7"),
    ("months are in a year", "There are 12 months in a year.", "12"),
    ("hours are in a day", "There are 24 hours in a day.", "24"),
    ("minutes are in an hour", "There are 60 minutes in an hour.", "60"),
    ("seconds are in a minute", "There are 60 seconds in a minute.", "60"),
    ("seasons are in a year", "There are 4 seasons in a year.", "4"),
    ("letters are in the English alphabet", "There are 26 letters in the English alphabet.", "26"),
    ("planets are in the solar system", "There are 8 planets in the solar system.", "8"),
    ("sides are on a triangle", "There are 3 sides on a triangle.", "3"),
    ("sides are on a square", "There are 4 sides on a square.", "4"),
    ("wheels are on a bicycle", "There are 2 wheels on a bicycle.", "2"),
    ("wheels are on a car", "There are 4 wheels on a car.", "4"),
    ("fingers are on one hand", "There are 5 fingers on one hand.", "5"),
    ("eggs are in a dozen", "There are 12 eggs in a dozen.", "12"),
    ("days are in a leap year", "There are 366 days in a leap year.", "366"),
    ("centimetres are in a metre", "There are 100 centimetres in a metre.", "100"),
    ("grams are in a kilogram", "There are 1000 grams in a kilogram.", "1000"),
    ("bits are in a byte", "There are 8 bits in a byte.", "8"),
]

# kind in the plural -> (singular, members); what "name three ..." draws from.
KINDS = {
    "animals": ("animal", ANIMALS[:45]), "fruits": ("fruit", FRUITS), "vegetables": ("vegetable", VEGETABLES),
    "colours": ("colour", COLOURS), "colors": ("color", COLOURS), "tools": ("tool", TOOLS),
    "pieces of furniture": ("piece of furniture", FURNITURE), "clothes": ("piece of clothing", CLOTHES),
    "musical instruments": ("musical instrument", INSTRUMENTS), "sports": ("sport", SPORTS),
    "drinks": ("drink", DRINKS), "foods": ("food", FOODS), "flowers": ("flower", FLOWERS), "trees": ("tree", TREES),
    "vehicles": ("vehicle", VEHICLES), "jobs": ("job", JOBS), "body parts": ("body part", BODY),
    "cities": ("city", CITIES), "metals": ("metal", METALS), "shapes": ("shape", SHAPES),
    "planets": ("planet", PLANETS), "months": ("month", MONTHS), "days of the week": ("day of the week", DAYS),
    "seasons": ("season", SEASONS), "countries": ("country", list(CAPITALS)[:30]), "names": ("name", NAMES),
    "birds": ("bird", "owl eagle parrot crow swan goose duck sparrow penguin hen".split()),
    "pets": ("pet", "cat dog rabbit parrot mouse pony".split()),
    "farm animals": ("farm animal", "cow pig sheep goat hen duck horse donkey goose".split()),
    "insects": ("insect", "bee ant fly wasp beetle butterfly moth".split()),
}

COMMON = """about above again air all also and answer any around ask away baby back bad bag bank bath because before
best better between big bird black boy bread break bring brother brown build bus busy call can card carry change
child city class clean clear close cloud cold come cook corn corner count country cup cut dance dark day deep door
down draw dream drink drive drop early earth east easy eat end enough even evening every eye face fall family far
farm fast father feel field fill find fine fire first fish floor flower fly follow food foot forest found free
fresh friend full game garden gate give glass goal gold good grass great green ground group grow hair half hall
hand happy hard head hear heart heat heavy help here high hill hold hole home hope hot hour house idea inside iron
jump just keep kind king kitchen know land large last late laugh lead learn leave left leg less letter life light
like line list listen little live long look lose lost loud love low lunch make many mark market meal mean meet
middle milk mind minute moment money moon more morning mother mountain mouth move much music must name near neck
need never new next night noise north nose note number ocean often open orange other outside over page paint pair
paper park part party pass past path pay people person picture piece place plan plane plant play point pond poor
present pull push queen question quick quiet rain read ready rest rich ride right ring rise river road rock room
round run salt same sand save say school sea season seat second see sell send seven shade shape share sheet ship
shoe shop short show side silver simple sing sister sit sky sleep slow small smile snow soft some song soon sound
south space speak spring stand star start stay step still stone stop storm story street strong sugar summer sun
sweet swim table take talk tall taste teach tell thank thing think time today together tomorrow top town train
travel tree true turn under until use very visit voice wait walk wall warm wash watch water way wear weather week
well west wet wheel when white wide wild wind window wing winter wish with wood word work world write year yellow
yesterday young sunset harvest winterland bluebird seaside notebook rainbow teacup moonlight sandcastle doorway
engine token model server memory cache actor tensor weight layer prompt stream request socket thread queue batch
alpha beta gamma delta bravo charlie echo foxtrot hotel india juliet kilo lima mike november papa quebec romeo
sierra tango uniform victor whiskey xray yankee zulu ready status canary signal check test ping pong hello done
amber birch cedar ember fjord granite hazel indigo jasmine kernel linen maple nectar olive pebble quartz river
saffron thistle umbra velvet willow yonder zephyr comet meteor galaxy rocket planet orbit lunar solar crystal
copper marble timber anchor sailor captain compass island lagoon coral pearl falcon raven robin heron
""".split()

ALL_WORDS = sorted(set(w for w in COMMON + ANIMALS + FRUITS + VEGETABLES + COLOURS + TOOLS + FURNITURE + CLOTHES
                       + INSTRUMENTS + SPORTS + DRINKS + FOODS + FLOWERS + TREES + VEHICLES + JOBS + BODY + METALS
                       + SHAPES + OBJECTS + PLACES + ADJECTIVES + SEASONS if w.isalpha()))

SYLLABLES = """ba be bi bo bu ca ce co cu da de di do du fa fe fi fo ga ge go gu ha he hi ho ja jo ka ke ki ko la le
li lo lu ma me mi mo mu na ne ni no nu pa pe pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa we wi
ya yo za ze zi zo an ar en er in or al el ol ist ard ent ork und elm ast ink""".split()
